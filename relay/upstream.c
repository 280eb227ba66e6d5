/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/upstream.h"

#include <stdio.h>

#include "relay/dial.h"
#include "relay/tls.h"

enum { OPEN_MS = 20000, KEEPALIVE_S = 60 };

struct upstream {
    struct relay *relay;
    const struct upstream_events *events;
    void *owner;
    struct dial dial;
    uv_timer_t timer;
    int open_handles; /* the timer, the dial */
    bool connected, tls_up, opened, paused, closing, failed, eof;
    struct tls *tls;
    struct handshake handshake;
    char problem[160];
    char raw[RELAY_BUFFER];
};

struct write {
    uv_write_t req;
    struct upstream *upstream;
    bool is_owners; /* the last piece of upstream_write */
    char data[];
};

static uv_stream_t *stream_of(struct upstream *u)
{
    return (uv_stream_t *)&u->dial.tcp;
}

static struct upstream *upstream_of(const uv_handle_t *tcp)
{
    return ((const struct dial *)tcp->data)->owner;
}

static void release(void *owner)
{
    struct upstream *u = owner;

    if (--u->open_handles > 0)
        return;
    tls_free(u->tls);
    free(u);
}

static void on_timer_closed(uv_handle_t *h)
{
    release(h->data);
}

void upstream_close(struct upstream *u)
{
    if (!u || u->closing)
        return;
    u->closing = true;
    uv_close((uv_handle_t *)&u->timer, on_timer_closed);
    dial_close(&u->dial);
}

static void fail(struct upstream *u, enum upstream_failure failure, const char *problem)
{
    if (u->closing || u->failed)
        return;
    u->failed = true;
    uv_timer_stop(&u->timer);
    if (u->connected)
        uv_read_stop(stream_of(u));
    if (u->opened) {
        u->events->ended(u->owner, true);
        return;
    }
    snprintf(u->problem, sizeof(u->problem), "%s", problem);
    probe_note(u->relay, failure == UPSTREAM_DOWN ? u->problem : NULL);
    u->events->failed(u->owner, failure, u->problem);
}

static void on_timeout(uv_timer_t *timer)
{
    fail(timer->data, UPSTREAM_DOWN, "the proxy does not answer in time");
}

/* --- bytes to the network */

static void on_written(uv_write_t *req, int status)
{
    struct write *w = (struct write *)req;
    struct upstream *u = w->upstream;
    bool tell = w->is_owners;

    free(w);
    if (u->closing)
        return;
    if (status < 0)
        fail(u, UPSTREAM_DOWN, "the proxy closed the connection");
    else if (tell && !u->failed)
        u->events->written(u->owner);
}

static void send_raw(struct upstream *u, const void *data, size_t len, bool is_owners)
{
    struct write *w = malloc(sizeof(*w) + len);
    uv_buf_t buf;

    if (!w)
        abort();
    w->upstream = u;
    w->is_owners = is_owners;
    memcpy(w->data, data, len);
    buf = uv_buf_init(w->data, (unsigned)len);
    /* A failure to begin is told like one to end. */
    if (uv_write(&w->req, stream_of(u), &buf, 1, on_written) != 0) {
        free(w);
        fail(u, UPSTREAM_DOWN, "the proxy closed the connection");
    }
}

/* What TLS has to say goes out; the last piece may be the owner's. */
static void flush_tls(struct upstream *u, bool is_owners)
{
    char out[2 * RELAY_BUFFER];
    size_t n;

    while ((n = tls_take(u->tls, out, sizeof(out))) > 0)
        send_raw(u, out, n, is_owners && tls_pending(u->tls) == 0);
}

static void send_plain(struct upstream *u, const void *data, size_t len, bool is_owners)
{
    if (!u->tls) {
        send_raw(u, data, len, is_owners);
        return;
    }
    if (tls_write(u->tls, data, len))
        flush_tls(u, is_owners);
    else
        fail(u, UPSTREAM_DOWN, "the TLS connection to the proxy broke");
}

void upstream_write(struct upstream *u, const uint8_t *data, size_t len)
{
    send_plain(u, data, len, true);
}

static void on_shut(uv_shutdown_t *req, int status)
{
    (void)status;
    free(req);
}

void upstream_shutdown(struct upstream *u)
{
    uv_shutdown_t *req = mem_new(uv_shutdown_t);

    if (u->tls) {
        tls_end(u->tls);
        flush_tls(u, false);
    }
    if (uv_shutdown(req, stream_of(u), on_shut) != 0)
        free(req);
}

/* --- bytes from the network */

static void say_handshake(struct upstream *u)
{
    if (u->handshake.out_len == 0)
        return;
    send_plain(u, u->handshake.out, u->handshake.out_len, false);
    explicit_bzero(u->handshake.out, u->handshake.out_len);
    u->handshake.out_len = 0;
}

static void deliver(struct upstream *u, const uint8_t *data, size_t len)
{
    u->paused = true;
    uv_read_stop(stream_of(u));
    u->events->data(u->owner, data, len);
}

static void become_open(struct upstream *u)
{
    u->opened = true;
    uv_timer_stop(&u->timer);
    probe_note(u->relay, NULL);
    u->events->opened(u->owner);
}

static void take_plain(struct upstream *u, const uint8_t *data, size_t len)
{
    enum handshake_state state;
    size_t used;

    if (u->opened) {
        deliver(u, data, len);
        return;
    }
    state = handshake_feed(&u->handshake, data, len, &used);
    if (state == HANDSHAKE_REFUSED || state == HANDSHAKE_FAILED) {
        fail(u, state == HANDSHAKE_REFUSED ? UPSTREAM_REFUSED : UPSTREAM_DOWN, u->handshake.problem);
        return;
    }
    say_handshake(u);
    if (state != HANDSHAKE_DONE || u->failed)
        return;
    become_open(u);
    if (!u->closing && used < len)
        deliver(u, data + used, len - used);
}

static void end(struct upstream *u)
{
    if (u->closing || u->failed || u->eof)
        return;
    if (!u->opened) {
        fail(u, UPSTREAM_DOWN, "the proxy closed the connection");
        return;
    }
    u->eof = true;
    uv_read_stop(stream_of(u));
    u->events->ended(u->owner, false);
}

static void pump_tls(struct upstream *u)
{
    uint8_t buf[RELAY_BUFFER];

    if (!u->tls_up) {
        enum tls_state state = tls_handshake(u->tls);

        flush_tls(u, false);
        if (state == TLS_BROKEN || state == TLS_ENDED)
            fail(u, UPSTREAM_DOWN, tls_problem(u->tls));
        if (state != TLS_OK || u->closing || u->failed)
            return;
        u->tls_up = true;
        say_handshake(u);
    }
    while (!u->paused && !u->closing && !u->failed && !u->eof) {
        size_t len = 0;
        enum tls_state state = tls_read(u->tls, buf, sizeof(buf), &len);

        if (state == TLS_OK)
            take_plain(u, buf, len);
        else if (state == TLS_ENDED)
            end(u);
        else if (state == TLS_BROKEN)
            fail(u, UPSTREAM_DOWN, "the TLS connection to the proxy broke");
        if (state == TLS_MORE) {
            flush_tls(u, false);
            return;
        }
    }
}

static void on_alloc(uv_handle_t *h, size_t suggested, uv_buf_t *buf)
{
    struct upstream *u = upstream_of(h);

    (void)suggested;
    *buf = uv_buf_init(u->raw, sizeof(u->raw));
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    struct upstream *u = upstream_of((uv_handle_t *)stream);

    if (n == UV_EOF) {
        end(u); /* with TLS, too: what goes through has its own end, and a cut is not worse than a close */
    } else if (n < 0) {
        fail(u, UPSTREAM_DOWN, "the proxy closed the connection");
    } else if (n > 0 && u->tls) {
        tls_feed(u->tls, buf->base, (size_t)n);
        pump_tls(u);
    } else if (n > 0) {
        take_plain(u, (const uint8_t *)buf->base, (size_t)n);
    }
}

static void read_more(struct upstream *u)
{
    if (!u->paused && !u->closing && !u->failed && !u->eof)
        uv_read_start(stream_of(u), on_alloc, on_read);
}

void upstream_resume(struct upstream *u)
{
    u->paused = false;
    if (u->tls)
        pump_tls(u);
    read_more(u);
}

/* --- beginning */

static void on_connected(void *owner)
{
    struct upstream *u = owner;

    if (u->failed)
        return;
    u->connected = true;
    uv_tcp_nodelay(&u->dial.tcp, 1);
    uv_tcp_keepalive(&u->dial.tcp, 1, KEEPALIVE_S);
    if (u->tls)
        pump_tls(u);
    else
        say_handshake(u);
    read_more(u);
}

static void on_not_connected(void *owner, const char *problem)
{
    fail(owner, UPSTREAM_DOWN, problem);
}

struct upstream *upstream_open(struct relay *r, const struct sockaddr *target, enum handshake_use use,
                               const struct upstream_events *events, void *owner)
{
    const struct relay_settings *s = &r->settings;
    struct upstream *u = mem_new(struct upstream);

    u->relay = r;
    u->events = events;
    u->owner = owner;
    handshake_init(&u->handshake, (enum proxy_kind)s->kind, s->username, s->password, target, use);
    if (r->tls)
        u->tls = tls_new(r->tls, s->host);
    uv_timer_init(&r->loop, &u->timer);
    u->timer.data = u;
    u->open_handles = 2;
    uv_timer_start(&u->timer, on_timeout, OPEN_MS, 0);
    u->dial =
        (struct dial){.relay = r, .owner = u, .connected = on_connected, .failed = on_not_connected, .closed = release};
    dial_start(&u->dial);
    return u;
}

/* A proxy that says no address, or 0.0.0.0, means its own. */
static bool is_unspecified(const struct sockaddr_storage *sa)
{
    if (sa->ss_family == AF_INET)
        return ((const struct sockaddr_in *)sa)->sin_addr.s_addr == INADDR_ANY;
    return IN6_IS_ADDR_UNSPECIFIED(&((const struct sockaddr_in6 *)sa)->sin6_addr);
}

bool upstream_bound(const struct upstream *u, struct sockaddr_storage *ret)
{
    struct sockaddr_storage proxy = {0};
    int len = sizeof(proxy);
    in_port_t port;

    if (!handshake_bound(&u->handshake, ret))
        return false;
    port = ((const struct sockaddr_in *)ret)->sin_port; /* same place in both families */
    if (is_unspecified(ret)) {
        if (uv_tcp_getpeername(&u->dial.tcp, (struct sockaddr *)&proxy, &len) != 0)
            return false;
        *ret = proxy;
        ((struct sockaddr_in *)ret)->sin_port = port;
    }
    return port != 0 && address_is_allowed(u->relay, (const struct sockaddr *)ret);
}
