/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/http/tls_context.h"

#include <openssl/err.h>
#include <openssl/x509.h>

#include "base/str.h"

static struct err *tls_error(const char *what, const char *file)
{
    unsigned long code = ERR_peek_error();
    const char *reason = ERR_SYSTEM_ERROR(code) ? strerrordesc_np(ERR_GET_REASON(code)) : ERR_reason_error_string(code);
    struct err *e = err_new(ERR_HOST, "%s '%s': %s", what, file, reason ? reason : "unknown error");

    ERR_clear_error();
    return e;
}

static bool role_of(X509 *cert, struct peer *ret)
{
    X509_NAME *subject = X509_get_subject_name(cert);
    char unit[64] = "";

    if (X509_NAME_get_text_by_NID(subject, NID_organizationalUnitName, unit, sizeof(unit)) <= 0)
        return false;
    if (strcmp(unit, "operator") == 0)
        ret->role = ROLE_OPERATOR;
    else if (strcmp(unit, "control-plane") == 0)
        ret->role = ROLE_CONTROL_PLANE;
    else if (strcmp(unit, "node") == 0)
        ret->role = ROLE_NODE;
    else
        return false;
    if (X509_NAME_get_text_by_NID(subject, NID_commonName, ret->name, sizeof(ret->name)) <= 0)
        ret->name[0] = '\0';
    return true;
}

/* A certificate without a role is refused inside the handshake, like one of a foreign CA. */
static int verify(int ok, X509_STORE_CTX *ctx)
{
    struct peer peer;

    if (!ok || X509_STORE_CTX_get_error_depth(ctx) != 0)
        return ok;
    if (role_of(X509_STORE_CTX_get_current_cert(ctx), &peer))
        return 1;
    X509_STORE_CTX_set_error(ctx, X509_V_ERR_APPLICATION_VERIFICATION);
    return 0;
}

static struct err *load_files(SSL_CTX *ctx, const struct config *c)
{
    X509_STORE *store = SSL_CTX_get_cert_store(ctx);

    if (SSL_CTX_use_certificate_chain_file(ctx, c->tls_certificate) != 1)
        return tls_error("server certificate", c->tls_certificate);
    if (SSL_CTX_use_PrivateKey_file(ctx, c->tls_key, SSL_FILETYPE_PEM) != 1)
        return tls_error("server key", c->tls_key);
    if (SSL_CTX_check_private_key(ctx) != 1)
        return tls_error("server key does not fit the certificate", c->tls_key);
    if (SSL_CTX_load_verify_file(ctx, c->tls_client_ca) != 1)
        return tls_error("client CA", c->tls_client_ca);
    SSL_CTX_set_client_CA_list(ctx, SSL_load_client_CA_file(c->tls_client_ca));
    if (c->tls_crl) {
        X509_LOOKUP *lookup = X509_STORE_add_lookup(store, X509_LOOKUP_file());

        if (!lookup || X509_load_crl_file(lookup, c->tls_crl, X509_FILETYPE_PEM) <= 0)
            return tls_error("revocation list", c->tls_crl);
        X509_STORE_set_flags(store, X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL);
    }
    return NULL;
}

struct err *tls_context_new(const struct config *config, SSL_CTX **ret)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
    struct err *e;

    if (!ctx)
        return err_new(ERR_INTERNAL, "out of memory");
    SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION);
    SSL_CTX_set_mode(ctx,
                     SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS);
    /* A resumed session would skip the check of a newer revocation list. */
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_num_tickets(ctx, 0);
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, verify);
    ERR_clear_error();
    e = load_files(ctx, config);
    if (e)
        SSL_CTX_free(ctx);
    else
        *ret = ctx;
    return e;
}

bool tls_peer(const SSL *ssl, struct peer *ret)
{
    X509 *cert = SSL_get0_peer_certificate(ssl);

    return cert && role_of(cert, ret);
}
