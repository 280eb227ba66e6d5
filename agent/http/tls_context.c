/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/http/tls_context.h"

#include <openssl/x509.h>

#include "base/str.h"
#include "tls/credentials.h"

enum { SUBJECT_MAX = 300 };

/* The one value of an attribute of the subject, as UTF-8 without control characters; NULL when there is not exactly
 * one that fits. */
static const char *only_value(X509 *cert, int nid, char *buf, size_t size)
{
    X509_NAME *subject = X509_get_subject_name(cert);
    int at = X509_NAME_get_index_by_NID(subject, nid, -1), len;
    unsigned char *text = NULL;

    if (at < 0 || X509_NAME_get_index_by_NID(subject, nid, at) >= 0)
        return NULL;
    len = ASN1_STRING_to_UTF8(&text, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at)));
    if (len > 0 && (size_t)len < size) {
        memcpy(buf, text, (size_t)len);
        buf[len] = '\0';
    }
    OPENSSL_free(text);
    return len > 0 && (size_t)len < size && strlen(buf) == (size_t)len && !str_has_control(buf) ? buf : NULL;
}

/* NULL, or why the certificate has no role. */
static const char *role_of(X509 *cert, struct peer *ret)
{
    char unit[64] = "";

    *ret = (struct peer){0};
    if (!only_value(cert, NID_organizationalUnitName, unit, sizeof(unit)))
        return "its subject must have exactly one OU, which is its role";
    if (!only_value(cert, NID_commonName, ret->name, sizeof(ret->name)))
        return "its subject must have exactly one CN, of at most 95 bytes";
    if (strcmp(unit, "operator") == 0)
        ret->role = ROLE_OPERATOR;
    else if (strcmp(unit, "control-plane") == 0)
        ret->role = ROLE_CONTROL_PLANE;
    else if (strcmp(unit, "node") == 0)
        ret->role = ROLE_NODE;
    else
        return "its OU is no role: operator, control-plane or node";
    return NULL;
}

/* Control characters and what is not ASCII are escaped. */
static char *subject_of(X509 *cert)
{
    BIO *bio = BIO_new(BIO_s_mem());
    char *text = NULL, *copy;
    long len;

    if (!bio)
        return str_dup("unknown");
    (void)X509_NAME_print_ex(bio, X509_get_subject_name(cert), 0, XN_FLAG_RFC2253);
    len = BIO_get_mem_data(bio, &text);
    copy = text ? strndup(text, (size_t)MIN(len, SUBJECT_MAX)) : str_dup("");
    BIO_free(bio);
    return copy;
}

/* A certificate without a role is refused inside the handshake, like one of a foreign CA. */
static int verify(int ok, X509_STORE_CTX *ctx)
{
    SSL *ssl = X509_STORE_CTX_get_ex_data(ctx, SSL_get_ex_data_X509_STORE_CTX_idx());
    struct tls_refusal *refusal = ssl ? SSL_get_app_data(ssl) : NULL;
    X509 *cert = X509_STORE_CTX_get0_cert(ctx);
    const char *reason = NULL;
    struct peer peer;

    if (!ok)
        reason = X509_verify_cert_error_string(X509_STORE_CTX_get_error(ctx));
    else if (X509_STORE_CTX_get_error_depth(ctx) == 0)
        reason = role_of(cert, &peer);
    if (!reason)
        return 1;
    if (ok)
        X509_STORE_CTX_set_error(ctx, X509_V_ERR_CERT_REJECTED); /* the alert is "bad certificate" */
    if (refusal && !refusal->reason) {
        refusal->reason = reason;
        refusal->subject = cert ? subject_of(cert) : NULL;
    }
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

    return cert && !role_of(cert, ret);
}

const char *tls_verify_again(SSL_CTX *ctx, const SSL *ssl)
{
    X509 *cert = SSL_get0_peer_certificate(ssl);
    X509_STORE_CTX *store = X509_STORE_CTX_new();
    const char *reason = "its certificate cannot be verified";
    struct peer peer;

    if (cert && store && X509_STORE_CTX_init(store, SSL_CTX_get_cert_store(ctx), cert, SSL_get_peer_cert_chain(ssl)) &&
        X509_STORE_CTX_set_default(store, "ssl_client"))
        reason = X509_verify_cert(store) == 1 ? role_of(cert, &peer)
                                              : X509_verify_cert_error_string(X509_STORE_CTX_get_error(store));
    X509_STORE_CTX_free(store);
    return reason;
}
