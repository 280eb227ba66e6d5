/* SPDX-License-Identifier: Apache-2.0 */
/* What one end of mTLS needs from files, all PEM: its certificate and key, the CA of the other end, its revocation
 * list. */
#pragma once

#include <openssl/ssl.h>

#include "base/err.h"

struct tls_credentials {
    const char *certificate, *key; /* the certificate with its chain behind it */
    const char *ca;
    const char *crl; /* may be NULL; else a certificate without a list of its issuer is refused */
};

/* Reads all of them into ctx. An error names the file. Any thread, with a ctx of its own. */
MUST_USE struct err *tls_credentials_load(SSL_CTX *ctx, const struct tls_credentials *c);
/* OpenSSL's newest error as an ERR_HOST: "WHAT 'FILE': REASON". Empties its queue. */
struct err *tls_error(const char *what, const char *file);
