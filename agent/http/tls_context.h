/* SPDX-License-Identifier: Apache-2.0 */
/* The server's side of mTLS: TLS 1.3 only, a client certificate of the one CA is required, its OU is the role. */
#pragma once

#include <openssl/ssl.h>

#include "agent/config.h"
#include "agent/http/http.h"

/* Why the client of a handshake was refused; the SSL's app data points to it while it lasts. */
struct tls_refusal {
    const char *reason; /* constant */
    char *subject;      /* of its certificate; the owner's to free */
};

/* A complete new context from the files of the configuration; the caller owns it. Errors name the file. */
MUST_USE struct err *tls_context_new(const struct config *config, SSL_CTX **ret);
/* Who is at the other end of a finished handshake; false when the certificate names no role. */
bool tls_peer(const SSL *ssl, struct peer *ret);
/* Whether ctx would let in the client of a finished handshake now: NULL, or why not (a constant). */
const char *tls_verify_again(SSL_CTX *ctx, const SSL *ssl);
