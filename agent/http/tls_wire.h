/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <openssl/ssl.h>

#include "agent/http/wire.h"

/* What a connection is worth after an SSL call that returned rc <= 0: WIRE_AGAIN or WIRE_END. */
ssize_t tls_outcome(const SSL *ssl, int rc, bool *want_write);
/* A connection whose handshake is over; takes over ssl, which has the socket fd. */
struct wire tls_wire(SSL *ssl, int fd);
