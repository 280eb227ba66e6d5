/* SPDX-License-Identifier: Apache-2.0 */
#include "transfer/link_tls.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <sys/socket.h>

#include "base/str.h"
#include "tls/credentials.h"

enum { PIECE = 16384 };

static bool expect_host(SSL *ssl, const char *host)
{
    struct in6_addr address;

    if (inet_pton(AF_INET, host, &address) == 1 || inet_pton(AF_INET6, host, &address) == 1)
        return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), host) == 1;
    return SSL_set1_host(ssl, host) == 1 && SSL_set_tlsext_host_name(ssl, host) == 1;
}

struct err *link_tls_new(const struct link_settings *s, SSL **ret)
{
    const struct tls_credentials credentials = {
        .certificate = s->certificate, .key = s->key, .ca = s->ca, .crl = s->crl};
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    struct err *e;

    if (!ctx)
        return err_new(ERR_INTERNAL, "OpenSSL has no memory");
    SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION);
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
    SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_AUTO_RETRY);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    e = tls_credentials_load(ctx, &credentials);
    *ret = e ? NULL : SSL_new(ctx);
    SSL_CTX_free(ctx); /* the connection has a reference of its own */
    if (!e && (!*ret || !expect_host(*ret, s->host)))
        e = err_new(ERR_INTERNAL, "OpenSSL has no memory");
    return e;
}

struct err *link_tls_handshake(SSL *ssl, int net)
{
    long verdict;

    ERR_clear_error();
    if (SSL_set_fd(ssl, net) == 1 && SSL_connect(ssl) == 1)
        return NULL;
    verdict = SSL_get_verify_result(ssl);
    if (verdict != X509_V_OK)
        return err_new(ERR_HOST, "the other node's certificate is not accepted: %s",
                       X509_verify_cert_error_string(verdict));
    return tls_error("TLS with the other node fails:", "handshake");
}

struct half {
    char buf[PIECE];
    size_t len, at;
    bool ended, used;  /* used: bytes have come */
    const char *alert; /* what the other node ended it with */
};

static bool over(const struct half *h)
{
    return h->ended && h->len == 0;
}

/* With TLS 1.3 a certificate is refused after SSL_connect has succeeded: the alert comes with the first read. */
static const char *alert_of(void)
{
    int reason = ERR_GET_REASON(ERR_peek_error());

    if (reason <= SSL_AD_REASON_OFFSET || reason > SSL_AD_REASON_OFFSET + 255)
        return NULL;
    return SSL_alert_desc_string_long(reason - SSL_AD_REASON_OFFSET);
}

static bool again(SSL *ssl, int rc, bool *want_write)
{
    int why = SSL_get_error(ssl, rc);

    *want_write = *want_write || why == SSL_ERROR_WANT_WRITE;
    return why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE;
}

/* From the other node to the job; true when something moved. */
static bool inwards(SSL *ssl, int inside, struct half *h, bool *want_write)
{
    bool moved = false;

    if (h->len == 0 && !h->ended) {
        int n;

        ERR_clear_error();
        n = SSL_read(ssl, h->buf, PIECE);
        if (n > 0) {
            h->len = (size_t)n;
            h->at = 0;
            moved = h->used = true;
        } else {
            h->ended = !again(ssl, n, want_write);
            h->alert = h->ended && !h->used ? alert_of() : NULL;
        }
    }
    if (h->len > 0) {
        ssize_t n = send(inside, h->buf + h->at, h->len, MSG_NOSIGNAL);

        if (n > 0) {
            h->at += (size_t)n;
            h->len -= (size_t)n;
            moved = true;
        } else if (errno != EAGAIN && errno != EINTR) {
            h->ended = true;
            h->len = 0;
        }
    }
    return moved;
}

/* From the job to the other node. */
static bool outwards(SSL *ssl, int inside, struct half *h, bool *want_write)
{
    bool moved = false;

    if (h->len == 0 && !h->ended) {
        ssize_t n = recv(inside, h->buf, PIECE, 0);

        if (n > 0) {
            h->len = (size_t)n;
            h->at = 0;
            moved = true;
        } else {
            h->ended = n == 0 || (errno != EAGAIN && errno != EINTR);
        }
    }
    if (h->len > 0) {
        int n;

        ERR_clear_error();
        n = SSL_write(ssl, h->buf + h->at, (int)h->len);
        if (n > 0) {
            h->at += (size_t)n;
            h->len -= (size_t)n;
            moved = true;
        } else if (!again(ssl, n, want_write)) {
            h->ended = true;
            h->len = 0;
        }
    }
    return moved;
}

const char *link_tls_pump(SSL *ssl, int net, int inside)
{
    static struct half in, out;

    (void)fcntl(net, F_SETFL, O_NONBLOCK);
    (void)fcntl(inside, F_SETFL, O_NONBLOCK);
    while (!over(&in) && !over(&out)) {
        bool want_write = false, moved = inwards(ssl, inside, &in, &want_write);
        struct pollfd fds[2];

        moved = outwards(ssl, inside, &out, &want_write) || moved;
        if (moved || over(&in) || over(&out))
            continue;
        fds[0] =
            (struct pollfd){net, (short)((in.len == 0 ? POLLIN : 0) | (out.len > 0 || want_write ? POLLOUT : 0)), 0};
        fds[1] = (struct pollfd){inside, (short)((out.len == 0 ? POLLIN : 0) | (in.len > 0 ? POLLOUT : 0)), 0};
        if (poll(fds, 2, -1) < 0 && errno != EINTR)
            break;
    }
    if (!in.ended) {
        bool want_write = false;

        (void)inwards(ssl, inside, &in, &want_write); /* a write that fails may have an alert behind it */
    }
    ERR_clear_error();
    (void)SSL_shutdown(ssl);
    return in.alert;
}
