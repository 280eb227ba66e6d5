/* SPDX-License-Identifier: Apache-2.0 */
/* The TLS side of link.h, for its process only. */
#pragma once

#include <openssl/ssl.h>

#include "transfer/link.h"

/* A client's connection object with keys and CA loaded; the caller frees it. */
MUST_USE struct err *link_tls_new(const struct link_settings *s, SSL **ret);
/* The handshake over a connected, blocking socket. */
MUST_USE struct err *link_tls_handshake(SSL *ssl, int net);
/* Carries bytes both ways between ssl (over net) and the socket `inside` until one of them ends. NULL, or the alert (a
 * constant, "certificate revoked") by which the other node ended the connection before any byte. */
const char *link_tls_pump(SSL *ssl, int net, int inside);
