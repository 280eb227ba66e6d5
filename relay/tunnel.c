/* SPDX-License-Identifier: Apache-2.0 */
/* One TCP connection of the container: what it was sent to is the address of our end. */
#include "relay/upstream.h"

enum { BACKLOG = 128, KEEPALIVE_S = 60, HALF_CLOSED_MS = 600000 };

struct tunnel {
    struct relay *relay;
    uv_tcp_t client;
    uv_timer_t timer; /* while one direction has ended: how long nothing may pass in the other */
    int open_handles;
    struct upstream *upstream;
    struct sockaddr_storage target;
    size_t server; /* of DNS: the one that is asked */
    bool is_dns, client_ended, target_ended, closing;
    uint8_t buf[RELAY_BUFFER];
};

struct client_write {
    uv_write_t req;
    struct tunnel *tunnel;
    uint8_t data[];
};

static void open_upstream(struct tunnel *t);

static void on_handle_closed(uv_handle_t *h)
{
    struct tunnel *t = h->data;

    if (--t->open_handles > 0)
        return;
    t->relay->tunnels--;
    free(t);
}

/* abrupt: the container sees a reset, as it would if the target were gone. */
static void tunnel_close(struct tunnel *t, bool abrupt)
{
    if (t->closing)
        return;
    t->closing = true;
    upstream_close(t->upstream);
    uv_close((uv_handle_t *)&t->timer, on_handle_closed);
    if (!abrupt || uv_tcp_close_reset(&t->client, on_handle_closed) != 0)
        uv_close((uv_handle_t *)&t->client, on_handle_closed);
}

static void on_timeout(uv_timer_t *timer)
{
    tunnel_close(timer->data, true);
}

/* One direction has ended; when the other one has, too, so has the tunnel. */
static void half_closed(struct tunnel *t)
{
    if (t->client_ended && t->target_ended)
        tunnel_close(t, false);
    else
        uv_timer_start(&t->timer, on_timeout, HALF_CLOSED_MS, HALF_CLOSED_MS);
}

/* Something has passed: what is half closed has its time again. */
static void touch(struct tunnel *t)
{
    if (uv_is_active((const uv_handle_t *)&t->timer))
        uv_timer_again(&t->timer);
}

/* --- from the container */

static void on_alloc(uv_handle_t *h, size_t suggested, uv_buf_t *buf)
{
    struct tunnel *t = h->data;

    (void)suggested;
    *buf = uv_buf_init((char *)t->buf, sizeof(t->buf));
}

static void on_client_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    struct tunnel *t = stream->data;

    (void)buf;
    if (n == 0)
        return;
    uv_read_stop(stream);
    if (n > 0) {
        upstream_write(t->upstream, t->buf, (size_t)n);
    } else if (n == UV_EOF) {
        t->client_ended = true;
        upstream_shutdown(t->upstream);
        half_closed(t);
    } else {
        tunnel_close(t, true);
    }
}

static void on_opened(void *owner)
{
    struct tunnel *t = owner;

    uv_read_start((uv_stream_t *)&t->client, on_alloc, on_client_read);
}

static void on_upstream_written(void *owner)
{
    struct tunnel *t = owner;

    touch(t);
    if (!t->client_ended)
        uv_read_start((uv_stream_t *)&t->client, on_alloc, on_client_read);
}

/* --- to the container */

static void on_client_written(uv_write_t *req, int status)
{
    struct client_write *w = (struct client_write *)req;
    struct tunnel *t = w->tunnel;

    free(w);
    if (t->closing)
        return;
    touch(t);
    if (status < 0)
        tunnel_close(t, true);
    else
        upstream_resume(t->upstream);
}

static void on_upstream_data(void *owner, const uint8_t *data, size_t len)
{
    struct tunnel *t = owner;
    struct client_write *w = malloc(sizeof(*w) + len);
    uv_buf_t buf;

    if (!w)
        abort();
    w->tunnel = t;
    memcpy(w->data, data, len);
    buf = uv_buf_init((char *)w->data, (unsigned)len);
    if (uv_write(&w->req, (uv_stream_t *)&t->client, &buf, 1, on_client_written) != 0) {
        free(w);
        tunnel_close(t, true);
    }
}

static void on_shut(uv_shutdown_t *req, int status)
{
    struct tunnel *t = req->data;

    (void)status;
    free(req);
    if (t->closing)
        return;
    t->target_ended = true;
    half_closed(t);
}

static void on_upstream_ended(void *owner, bool broken)
{
    struct tunnel *t = owner;
    uv_shutdown_t *req;

    if (broken) {
        tunnel_close(t, true);
        return;
    }
    req = mem_new(uv_shutdown_t);
    req->data = t;
    if (uv_shutdown(req, (uv_stream_t *)&t->client, on_shut) != 0) {
        free(req);
        tunnel_close(t, true);
    }
}

static void on_failed(void *owner, enum upstream_failure failure, const char *problem)
{
    struct tunnel *t = owner;

    (void)problem;
    upstream_close(t->upstream);
    t->upstream = NULL;
    if (t->is_dns && failure == UPSTREAM_REFUSED && ++t->server < t->relay->server_count)
        open_upstream(t);
    else
        tunnel_close(t, true);
}

static const struct upstream_events events = {.opened = on_opened,
                                              .failed = on_failed,
                                              .data = on_upstream_data,
                                              .written = on_upstream_written,
                                              .ended = on_upstream_ended};

static void open_upstream(struct tunnel *t)
{
    const struct sockaddr_storage *to = t->is_dns ? &t->relay->servers[t->server] : &t->target;

    t->upstream = upstream_open(t->relay, (const struct sockaddr *)to, HANDSHAKE_CONNECT, &events, t);
}

/* --- beginning */

/* From the container, and not to ourselves: then it did not come by the rules. */
static bool is_welcome(const struct tunnel *t)
{
    struct sockaddr_storage peer = {0};
    int len = sizeof(peer);

    return t->relay->tunnels <= RELAY_TUNNELS_MAX &&
           uv_tcp_getpeername(&t->client, (struct sockaddr *)&peer, &len) == 0 && address_is_client(t->relay, &peer) &&
           !address_is_own(t->relay, &t->target);
}

static void on_connection(uv_stream_t *listener, int status)
{
    struct relay *r = listener->data;
    struct tunnel *t;
    int len = sizeof(t->target);

    if (status < 0)
        return;
    t = mem_new(struct tunnel);
    t->relay = r;
    t->open_handles = 2;
    r->tunnels++;
    uv_tcp_init(&r->loop, &t->client);
    uv_timer_init(&r->loop, &t->timer);
    t->client.data = t->timer.data = t;
    if (uv_accept(listener, (uv_stream_t *)&t->client) != 0 ||
        uv_tcp_getsockname(&t->client, (struct sockaddr *)&t->target, &len) != 0 || !is_welcome(t)) {
        tunnel_close(t, true);
        return;
    }
    uv_tcp_nodelay(&t->client, 1);
    uv_tcp_keepalive(&t->client, 1, KEEPALIVE_S);
    t->is_dns = ((const struct sockaddr_in *)&t->target)->sin_port == htons(RELAY_DNS_PORT); /* same place in both */
    open_upstream(t);
}

struct err *tunnels_start(struct relay *r)
{
    for (size_t i = 0; i < ARRAY_LEN(r->listeners); i++) {
        int rc;

        if (r->tcp_fd[i] < 0)
            continue;
        uv_tcp_init(&r->loop, &r->listeners[i]);
        r->listeners[i].data = r;
        rc = uv_tcp_open(&r->listeners[i], r->tcp_fd[i]);
        if (rc == 0)
            rc = uv_listen((uv_stream_t *)&r->listeners[i], BACKLOG, on_connection);
        if (rc != 0)
            return err_new(ERR_HOST, "cannot listen: %s", uv_strerror(rc));
    }
    return NULL;
}
