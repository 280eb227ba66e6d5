/* SPDX-License-Identifier: Apache-2.0 */
/* The server's side of mTLS: TLS 1.3 only, a client certificate of the one CA is required, its OU is the role. */
#pragma once

#include <openssl/ssl.h>

#include "agent/config.h"
#include "agent/http/http.h"

/* A complete new context from the files of the configuration; the caller owns it. Errors name the file. */
MUST_USE struct err *tls_context_new(const struct config *config, SSL_CTX **ret);
/* Who is at the other end of a finished handshake; false when the certificate names no role. */
bool tls_peer(const SSL *ssl, struct peer *ret);
