/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/tls.h"

#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>

struct tls {
    SSL *ssl;
    BIO *in, *out;
};

struct err *tls_context(const char *ca_file, SSL_CTX **ret)
{
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
    bool loaded;

    if (!context)
        return err_new(ERR_INTERNAL, "OpenSSL has no memory");
    SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
    SSL_CTX_set_mode(context, SSL_MODE_AUTO_RETRY | SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    loaded = ca_file ? SSL_CTX_load_verify_file(context, ca_file) == 1 : SSL_CTX_set_default_verify_paths(context) == 1;
    ERR_clear_error();
    if (!loaded) {
        SSL_CTX_free(context);
        return err_new(ERR_HOST, "cannot load the certificates of '%s'", ca_file ? ca_file : "the system");
    }
    *ret = context;
    return NULL;
}

struct tls *tls_new(SSL_CTX *context, const char *host)
{
    struct tls *t = mem_new(struct tls);
    struct in6_addr address;
    bool is_address = inet_pton(AF_INET, host, &address) == 1 || inet_pton(AF_INET6, host, &address) == 1;
    bool ok;

    t->ssl = SSL_new(context);
    t->in = BIO_new(BIO_s_mem());
    t->out = BIO_new(BIO_s_mem());
    if (!t->ssl || !t->in || !t->out)
        abort();
    SSL_set_bio(t->ssl, t->in, t->out);
    SSL_set_connect_state(t->ssl);
    if (is_address)
        ok = X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(t->ssl), host) == 1;
    else
        ok = SSL_set1_host(t->ssl, host) == 1 && SSL_set_tlsext_host_name(t->ssl, host) == 1;
    if (!ok)
        abort();
    return t;
}

void tls_free(struct tls *t)
{
    if (!t)
        return;
    SSL_free(t->ssl);
    free(t);
}

void tls_feed(struct tls *t, const void *data, size_t len)
{
    if (BIO_write(t->in, data, (int)len) != (int)len)
        abort();
}

size_t tls_take(struct tls *t, void *buf, size_t size)
{
    int n = BIO_read(t->out, buf, (int)size);

    return n > 0 ? (size_t)n : 0;
}

size_t tls_pending(const struct tls *t)
{
    return BIO_ctrl_pending(t->out);
}

static enum tls_state state_of(const struct tls *t, int rc)
{
    int error = SSL_get_error(t->ssl, rc);

    if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE)
        return TLS_MORE;
    return error == SSL_ERROR_ZERO_RETURN ? TLS_ENDED : TLS_BROKEN;
}

enum tls_state tls_handshake(struct tls *t)
{
    int rc;

    ERR_clear_error();
    rc = SSL_do_handshake(t->ssl);
    return rc == 1 ? TLS_OK : state_of(t, rc);
}

enum tls_state tls_read(struct tls *t, void *buf, size_t size, size_t *ret_len)
{
    int n;

    ERR_clear_error();
    n = SSL_read(t->ssl, buf, (int)size);
    if (n <= 0)
        return state_of(t, n);
    *ret_len = (size_t)n;
    return TLS_OK;
}

bool tls_write(struct tls *t, const void *data, size_t len)
{
    ERR_clear_error();
    return SSL_write(t->ssl, data, (int)len) == (int)len;
}

void tls_end(struct tls *t)
{
    ERR_clear_error();
    (void)SSL_shutdown(t->ssl);
}

const char *tls_problem(const struct tls *t)
{
    long verdict = SSL_get_verify_result(t->ssl);

    return verdict == X509_V_OK ? "the TLS handshake failed" : X509_verify_cert_error_string(verdict);
}
