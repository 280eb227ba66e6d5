/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pump reads a side only when its buffer for the other side is empty, and polls for writing only when it is not:
 * that is the whole backpressure. The read buffer holds a full TLS record, so that no byte stays inside OpenSSL unseen
 * by epoll.
 */
#include "agent/http/tls.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"

enum { RECORD_SIZE = 16384, HANDSHAKE_MS = 10000, PUMPS_MAX = 256, TURNS = 32 };

struct tls_listener {
    uv_loop_t *loop;
    SSL_CTX *ctx;
    struct http_server *http;
    uv_poll_t poll;
    int fd;
    struct pump *pumps;
    size_t count;
    bool closing, poll_closed;
    void *owner;
    void (*closed)(void *owner);
};

struct side {
    char *buf; /* bytes on the way out of this side; NULL while there are none */
    size_t len, sent;
};

struct pump {
    struct tls_listener *listener;
    struct pump *prev, *next;
    SSL *ssl;
    int net_fd, http_fd;
    uv_poll_t net, http;
    uv_timer_t handshake;
    int open_handles;
    bool established, net_eof, http_eof, http_shut, dead, want_write;
    struct side to_http, to_net;
};

static void maybe_closed(struct tls_listener *t)
{
    if (!t->closing || !t->poll_closed || t->count > 0)
        return;
    SSL_CTX_free(t->ctx);
    t->closed(t->owner);
    free(t);
}

static void on_pump_handle_closed(uv_handle_t *h)
{
    struct pump *p = h->data;
    struct tls_listener *t = p->listener;

    if (--p->open_handles > 0)
        return;
    SSL_free(p->ssl);
    close(p->net_fd);
    if (p->http_fd >= 0)
        close(p->http_fd);
    free(p->to_http.buf);
    free(p->to_net.buf);
    if (p->prev)
        p->prev->next = p->next;
    else
        t->pumps = p->next;
    if (p->next)
        p->next->prev = p->prev;
    free(p);
    t->count--;
    maybe_closed(t);
}

static void pump_kill(struct pump *p)
{
    if (p->dead)
        return;
    p->dead = true;
    uv_close((uv_handle_t *)&p->handshake, on_pump_handle_closed);
    uv_close((uv_handle_t *)&p->net, on_pump_handle_closed);
    if (p->http_fd >= 0)
        uv_close((uv_handle_t *)&p->http, on_pump_handle_closed);
}

/* What an SSL call that returned <= 0 means. */
enum ssl_outcome { SSL_AGAIN, SSL_END };

static enum ssl_outcome ssl_outcome(struct pump *p, int rc)
{
    int why = SSL_get_error(p->ssl, rc);

    if (why == SSL_ERROR_WANT_WRITE)
        p->want_write = true;
    return why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE ? SSL_AGAIN : SSL_END;
}

static void side_open(struct side *s)
{
    if (!s->buf)
        s->buf = mem_new_array(char, RECORD_SIZE);
}

/* An idle connection keeps no buffer. */
static void side_rest(struct side *s, bool moved)
{
    if (s->sent == s->len)
        s->len = 0;
    if (s->len > 0 || moved)
        return;
    free(s->buf);
    s->buf = NULL;
}

static bool net_to_http(struct pump *p)
{
    struct side *s = &p->to_http;
    bool moved = false;

    if (s->len == 0 && !p->net_eof) {
        int n;

        side_open(s);
        ERR_clear_error();
        n = SSL_read(p->ssl, s->buf, RECORD_SIZE);
        if (n > 0) {
            s->len = (size_t)n;
            s->sent = 0;
        } else if (ssl_outcome(p, n) == SSL_END) {
            p->net_eof = true;
        }
        moved = n > 0;
    }
    if (s->len > 0) {
        ssize_t n = send(p->http_fd, s->buf + s->sent, s->len - s->sent, MSG_NOSIGNAL);

        if (n > 0) {
            s->sent += (size_t)n;
            moved = true;
        } else if (n < 0 && errno != EAGAIN && errno != EINTR) {
            p->net_eof = true; /* nobody reads any more: drop the rest */
            s->sent = s->len;
        }
    }
    side_rest(s, moved);
    if (p->net_eof && s->len == 0 && !p->http_shut) {
        p->http_shut = true;
        (void)shutdown(p->http_fd, SHUT_WR);
    }
    return moved;
}

static bool http_to_net(struct pump *p)
{
    struct side *s = &p->to_net;
    bool moved = false;

    if (s->len == 0 && !p->http_eof) {
        ssize_t n;

        side_open(s);
        n = read(p->http_fd, s->buf, RECORD_SIZE);
        if (n > 0) {
            s->len = (size_t)n;
            s->sent = 0;
            moved = true;
        } else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
            p->http_eof = true;
        }
    }
    if (s->len > 0) {
        int n;

        ERR_clear_error();
        n = SSL_write(p->ssl, s->buf + s->sent, (int)(s->len - s->sent));
        if (n > 0) {
            s->sent += (size_t)n;
            moved = true;
        } else if (ssl_outcome(p, n) == SSL_END) {
            p->http_eof = true;
            s->sent = s->len;
        }
    }
    side_rest(s, moved);
    return moved;
}

static void on_net(uv_poll_t *poll, int status, int events);
static void on_http(uv_poll_t *poll, int status, int events);

static void pump_run(struct pump *p)
{
    int net, http;
    bool moved = true;

    p->want_write = false;
    for (int i = 0; moved && i < TURNS; i++) {
        moved = net_to_http(p);
        moved = http_to_net(p) || moved;
    }
    if (p->http_eof && p->to_net.len == 0) {
        ERR_clear_error();
        (void)SSL_shutdown(p->ssl);
        pump_kill(p);
        return;
    }
    net =
        (p->to_http.len == 0 && !p->net_eof ? UV_READABLE : 0) | (p->to_net.len > 0 || p->want_write ? UV_WRITABLE : 0);
    http = (p->to_net.len == 0 && !p->http_eof ? UV_READABLE : 0) | (p->to_http.len > 0 ? UV_WRITABLE : 0);
    if (net)
        uv_poll_start(&p->net, net, on_net);
    else
        uv_poll_stop(&p->net);
    if (http)
        uv_poll_start(&p->http, http, on_http);
    else
        uv_poll_stop(&p->http);
}

static void on_http(uv_poll_t *poll, int status, int events)
{
    (void)status;
    (void)events;
    pump_run(poll->data);
}

static void hand_over(struct pump *p)
{
    struct peer peer;
    int pair[2];

    if (!tls_peer(p->ssl, &peer) || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0) {
        pump_kill(p);
        return;
    }
    p->established = true;
    uv_timer_stop(&p->handshake);
    p->http_fd = pair[0];
    if (uv_poll_init(p->listener->loop, &p->http, p->http_fd) != 0)
        abort();
    p->http.data = p;
    p->open_handles++;
    http_server_add(p->listener->http, pair[1], &peer);
    pump_run(p);
}

static void on_net(uv_poll_t *poll, int status, int events)
{
    struct pump *p = poll->data;
    int rc;

    (void)events;
    if (p->established) {
        pump_run(p);
        return;
    }
    p->want_write = false;
    ERR_clear_error();
    rc = status == 0 ? SSL_accept(p->ssl) : -1;
    if (rc == 1)
        hand_over(p);
    else if (status != 0 || ssl_outcome(p, rc) == SSL_END)
        pump_kill(p);
    else
        uv_poll_start(&p->net, UV_READABLE | (p->want_write ? UV_WRITABLE : 0), on_net);
}

static void on_handshake_late(uv_timer_t *timer)
{
    pump_kill(timer->data);
}

static void pump_new(struct tls_listener *t, int fd)
{
    struct pump *p = mem_new(struct pump);
    int one = 1;

    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    *p = (struct pump){.listener = t, .next = t->pumps, .net_fd = fd, .http_fd = -1, .open_handles = 2};
    if (t->pumps)
        t->pumps->prev = p;
    t->pumps = p;
    t->count++;
    p->ssl = SSL_new(t->ctx);
    if (!p->ssl || SSL_set_fd(p->ssl, fd) != 1)
        abort();
    SSL_set_accept_state(p->ssl);
    uv_timer_init(t->loop, &p->handshake);
    if (uv_poll_init(t->loop, &p->net, fd) != 0)
        abort();
    p->handshake.data = p->net.data = p;
    uv_timer_start(&p->handshake, on_handshake_late, HANDSHAKE_MS, 0);
    uv_poll_start(&p->net, UV_READABLE, on_net);
}

static void on_accept(uv_poll_t *poll, int status, int events)
{
    struct tls_listener *t = poll->data;

    (void)status;
    (void)events;
    for (int i = 0; i < TURNS; i++) {
        int fd = accept4(t->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

        if (fd < 0)
            return;
        if (t->count >= PUMPS_MAX)
            close(fd);
        else
            pump_new(t, fd);
    }
}

struct err *tls_listener_start(uv_loop_t *loop, int listen_fd, const struct config *config, struct http_server *http,
                               struct tls_listener **ret)
{
    struct tls_listener *t = mem_new(struct tls_listener);
    struct err *e = tls_context_new(config, &t->ctx);

    if (e) {
        close(listen_fd);
        free(t);
        return e;
    }
    t->loop = loop;
    t->http = http;
    t->fd = listen_fd;
    t->poll.data = t;
    if (uv_poll_init(loop, &t->poll, listen_fd) != 0)
        abort();
    uv_poll_start(&t->poll, UV_READABLE, on_accept);
    *ret = t;
    return NULL;
}

struct err *tls_listener_reload(struct tls_listener *t, const struct config *config)
{
    SSL_CTX *fresh = NULL;
    struct err *e = tls_context_new(config, &fresh);

    if (e)
        return e;
    SSL_CTX_free(t->ctx); /* connections hold references of their own */
    t->ctx = fresh;
    return NULL;
}

static void on_listener_closed(uv_handle_t *h)
{
    struct tls_listener *t = h->data;

    close(t->fd);
    t->poll_closed = true;
    maybe_closed(t);
}

void tls_listener_close(struct tls_listener *t, void *owner, void (*closed)(void *owner))
{
    t->closing = true;
    t->owner = owner;
    t->closed = closed;
    for (struct pump *p = t->pumps, *next; p; p = next) {
        next = p->next;
        pump_kill(p);
    }
    uv_close((uv_handle_t *)&t->poll, on_listener_closed);
}
