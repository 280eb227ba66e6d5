/* SPDX-License-Identifier: Apache-2.0 */
#include "tls/credentials.h"

#include <openssl/err.h>
#include <string.h>

struct err *tls_error(const char *what, const char *file)
{
    unsigned long code = ERR_peek_error();
    const char *reason = ERR_SYSTEM_ERROR(code) ? strerrordesc_np(ERR_GET_REASON(code)) : ERR_reason_error_string(code);
    struct err *e = err_new(ERR_HOST, "%s '%s': %s", what, file, reason ? reason : "unknown error");

    ERR_clear_error();
    return e;
}

static struct err *load_crl(SSL_CTX *ctx, const char *file)
{
    X509_STORE *store = SSL_CTX_get_cert_store(ctx);
    X509_LOOKUP *lookup = X509_STORE_add_lookup(store, X509_LOOKUP_file());

    if (!lookup || X509_load_crl_file(lookup, file, X509_FILETYPE_PEM) <= 0)
        return tls_error("revocation list", file);
    X509_STORE_set_flags(store, X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL);
    return NULL;
}

struct err *tls_credentials_load(SSL_CTX *ctx, const struct tls_credentials *c)
{
    ERR_clear_error();
    if (SSL_CTX_use_certificate_chain_file(ctx, c->certificate) != 1)
        return tls_error("certificate", c->certificate);
    if (SSL_CTX_use_PrivateKey_file(ctx, c->key, SSL_FILETYPE_PEM) != 1)
        return tls_error("key", c->key);
    if (SSL_CTX_check_private_key(ctx) != 1)
        return tls_error("key does not fit the certificate", c->key);
    if (SSL_CTX_load_verify_file(ctx, c->ca) != 1)
        return tls_error("CA", c->ca);
    return c->crl ? load_crl(ctx, c->crl) : NULL;
}
