/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/http/tls_context.h"

#include <openssl/x509.h>

#include "base/str.h"
#include "tls/credentials.h"

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
    const struct tls_credentials credentials = {
        .certificate = c->tls_certificate,
        .key = c->tls_key,
        .ca = c->tls_client_ca,
        .crl = c->tls_crl,
    };
    struct err *e = tls_credentials_load(ctx, &credentials);

    if (!e)
        SSL_CTX_set_client_CA_list(ctx, SSL_load_client_CA_file(c->tls_client_ca));
    return e ? err_wrap(e, "TLS of the server") : NULL;
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
