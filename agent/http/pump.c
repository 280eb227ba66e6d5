/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pump reads a side only when its buffer for the other side is empty, and polls for writing only when it is not:
 * that is the whole backpressure. The read buffer holds a full TLS record, so that no byte stays inside OpenSSL unseen
 * by epoll. A connection that this side ends is read on for a moment: a close with unread bytes would make the kernel
 * throw away the answer that is still on its way.
 */
#include "agent/http/pump.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/http/http_error.h"
#include "agent/http/internal.h"
#include "base/log.h"

enum { TURNS = 32, LINGER_MS = 2000, LAST_BYTES_MS = 30000, LAST_CALL_MS = 6000, REFUSED_MAX = 64 };

#define CONTINUE "HTTP/1.1 100 Continue\r\n\r\n"

struct side {
    char *buf; /* bytes on the way out of this side; NULL while there are none */
    size_t len, sent;
};

struct pump {
    struct http_link link; /* first: its refuse finds the pump by it */
    struct pump_set *set;
    struct pump *prev, *next;
    struct wire wire;
    struct peer peer;
    int http_fd; /* -1: refused before it got that far */
    uv_poll_t net, http;
    uv_timer_t linger;
    uint64_t used_ms; /* when bytes moved last */
    int open_handles;
    bool net_eof, http_eof, http_shut, dead, want_write, refused, lingering;
    struct side to_http, to_net;
    char *parting; /* what is sent behind to_net, the last of all */
    size_t parting_len;
};

static void on_set_handle_closed(uv_handle_t *h)
{
    struct pump_set *set = h->data;

    if (--set->open_handles == 0)
        set->closed(set->owner);
}

static void maybe_closed(struct pump_set *set)
{
    if (set->closing && set->count == 0 && !uv_is_closing((uv_handle_t *)&set->last_call))
        uv_close((uv_handle_t *)&set->last_call, on_set_handle_closed);
}

static void on_pump_handle_closed(uv_handle_t *h)
{
    struct pump *p = h->data;
    struct pump_set *set = p->set;

    if (--p->open_handles > 0)
        return;
    p->wire.ops->free(&p->wire);
    close(p->wire.fd);
    if (p->http_fd >= 0)
        close(p->http_fd);
    free(p->to_http.buf);
    free(p->to_net.buf);
    free(p->parting);
    if (p->prev)
        p->prev->next = p->next;
    else
        set->first = p->next;
    if (p->next)
        p->next->prev = p->prev;
    free(p);
    set->count--;
    memory_churn(set->memory, 1);
    maybe_closed(set);
}

static void pump_kill(struct pump *p)
{
    if (p->dead)
        return;
    p->dead = true;
    http_link_gone(&p->link);
    uv_close((uv_handle_t *)&p->linger, on_pump_handle_closed);
    uv_close((uv_handle_t *)&p->net, on_pump_handle_closed);
    if (p->http_fd >= 0)
        uv_close((uv_handle_t *)&p->http, on_pump_handle_closed);
}

static void side_open(struct side *s)
{
    if (!s->buf)
        s->buf = mem_new_array(char, PUMP_RECORD);
}

static void side_drop(struct side *s)
{
    s->len = s->sent = 0;
    free(s->buf);
    s->buf = NULL;
}

/* An idle connection keeps no buffer. */
static void side_rest(struct side *s, bool moved)
{
    if (s->sent == s->len)
        s->len = 0;
    if (s->len == 0 && !moved)
        side_drop(s);
}

/* libmicrohttpd sees nothing more of this connection, and the client gets an error and the end. */
static void refuse(struct pump *p, int status, const char *message, int retry_after_s)
{
    if (p->refused || p->dead || p->lingering)
        return;
    p->refused = p->http_eof = p->net_eof = p->http_shut = true;
    side_drop(&p->to_http);
    p->parting = http_error_reply(status, message, retry_after_s, &p->parting_len);
    if (p->http_fd >= 0)
        (void)shutdown(p->http_fd, SHUT_RDWR);
}

static void on_net(uv_poll_t *poll, int status, int events);
static void on_http(uv_poll_t *poll, int status, int events);

static void refuse_link(struct http_link *link, int status, const char *message, int retry_after_s)
{
    struct pump *p = (struct pump *)link;

    refuse(p, status, message, retry_after_s);
    if (!p->dead && !p->lingering)
        uv_poll_start(&p->net, UV_WRITABLE, on_net);
}

static bool net_to_http(struct pump *p)
{
    struct side *s = &p->to_http;
    bool moved = false;

    if (s->len == 0 && !p->net_eof) {
        ssize_t n;

        side_open(s);
        n = p->wire.ops->read(&p->wire, s->buf, PUMP_RECORD, &p->want_write);
        if (n > 0) {
            s->len = (size_t)n;
            s->sent = 0;
        } else if (n == WIRE_END) {
            p->net_eof = true;
        }
        moved = n > 0;
    }
    if (s->len > 0) {
        ssize_t n = send(p->http_fd, s->buf + s->sent, s->len - s->sent, MSG_NOSIGNAL);

        if (n > 0) {
            s->sent += (size_t)n;
            p->link.given += (uint64_t)n;
            moved = true;
        } else if (n < 0 && errno != EAGAIN && errno != EINTR) {
            p->net_eof = true; /* libmicrohttpd has closed its end: what the client still sends is dropped */
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

/* What libmicrohttpd says by itself: 100 Continue passes, an error page makes place for ours. */
static void take_foreign(struct pump *p, struct side *s, size_t len)
{
    size_t begin = 0;
    int status = 0;

    if (len >= strlen(CONTINUE) && memcmp(s->buf, CONTINUE, strlen(CONTINUE)) == 0)
        begin = s->len = strlen(CONTINUE);
    s->sent = 0;
    if (begin == len)
        return;
    for (size_t i = begin + strlen("HTTP/1.1 "); i < MIN(len, begin + strlen("HTTP/1.1 400")); i++)
        status = status * 10 + (s->buf[i] >= '0' && s->buf[i] <= '9' ? s->buf[i] - '0' : 0);
    if (status < 400 || status > 599)
        status = 400;
    refuse(p, status, http_error_reason(status), status == 503 ? 1 : 0);
}

static bool take_reply(struct pump *p, struct side *s)
{
    uint64_t ours = http_link_ours(&p->link);
    ssize_t n;

    side_open(s);
    n = read(p->http_fd, s->buf, ours > 0 ? MIN(PUMP_RECORD, ours) : PUMP_RECORD);
    if (n > 0) {
        p->link.taken += (uint64_t)n;
        s->sent = 0;
        if (ours > 0)
            s->len = (size_t)n;
        else
            take_foreign(p, s, (size_t)n);
        return true;
    }
    if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
        /* libmicrohttpd may end a request that it cannot read without a word. */
        if (!p->net_eof && !p->link.last && !p->link.upgraded && !p->set->closing)
            refuse(p, 400, http_error_reason(400), 0);
        p->http_eof = true;
    }
    return false;
}

static bool http_to_net(struct pump *p)
{
    struct side *s = &p->to_net;
    bool moved = false;

    if (s->len == 0 && !p->http_eof)
        moved = take_reply(p, s);
    if (s->len == 0 && p->parting) {
        side_drop(s);
        *s = (struct side){.buf = steal(&p->parting), .len = p->parting_len};
    }
    if (s->len > 0) {
        ssize_t n = p->wire.ops->write(&p->wire, s->buf + s->sent, s->len - s->sent, &p->want_write);

        if (n > 0) {
            s->sent += (size_t)n;
            moved = true;
        } else if (n == WIRE_END) {
            p->http_eof = true;
            s->sent = s->len;
            free(steal(&p->parting));
        }
    }
    side_rest(s, moved);
    return moved;
}

static void on_linger_over(uv_timer_t *timer)
{
    pump_kill(timer->data);
}

/* True when the client has ended the connection too. */
static bool swallow(const struct pump *p)
{
    char buf[PUMP_RECORD];
    ssize_t n = 1;

    for (int i = 0; n > 0 && i < TURNS; i++)
        n = recv(p->wire.fd, buf, sizeof(buf), 0);
    return n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR);
}

static void finish(struct pump *p)
{
    p->wire.ops->finish(&p->wire);
    if (p->set->closing || swallow(p)) {
        pump_kill(p);
        return;
    }
    p->lingering = true;
    http_link_gone(&p->link);
    if (p->http_fd >= 0) {
        uv_poll_stop(&p->http);
        (void)shutdown(p->http_fd, SHUT_RDWR);
    }
    uv_timer_start(&p->linger, on_linger_over, LINGER_MS, 0);
    uv_poll_start(&p->net, UV_READABLE, on_net);
}

static void pump_run(struct pump *p)
{
    int net, http;
    bool moved = true;

    p->want_write = false;
    for (int i = 0; moved && i < TURNS; i++) {
        moved = net_to_http(p);
        moved = http_to_net(p) || moved;
        if (moved)
            p->used_ms = uv_now(p->set->loop);
    }
    if (p->http_eof && p->to_net.len == 0 && !p->parting) {
        finish(p);
        return;
    }
    if (p->http_eof && !uv_is_active((uv_handle_t *)&p->linger)) /* a client need not take the last bytes for ever */
        uv_timer_start(&p->linger, on_linger_over, LAST_BYTES_MS, 0);
    net = (p->to_http.len == 0 && !p->net_eof ? UV_READABLE : 0) |
          (p->to_net.len > 0 || p->parting || p->want_write ? UV_WRITABLE : 0);
    http = (p->to_net.len == 0 && !p->http_eof ? UV_READABLE : 0) | (p->to_http.len > 0 ? UV_WRITABLE : 0);
    if (net)
        uv_poll_start(&p->net, net, on_net);
    else
        uv_poll_stop(&p->net);
    if (p->http_fd < 0)
        return;
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

static void on_net(uv_poll_t *poll, int status, int events)
{
    struct pump *p = poll->data;

    (void)status;
    (void)events;
    if (!p->lingering)
        pump_run(p);
    else if (swallow(p))
        pump_kill(p);
}

/* No request of it is under way. */
static bool is_idle(const struct pump *p)
{
    return p->lingering || (!p->dead && !p->refused && !p->link.replying && !p->link.upgraded &&
                            !http_link_asked(&p->link) && p->to_net.len == 0 && p->to_http.len == 0);
}

static size_t count_of(const struct pump_set *set, const struct peer *peer)
{
    size_t n = 0;

    for (const struct pump *p = set->first; p; p = p->next)
        n += !p->dead && peer_same(&p->peer, peer);
    return n;
}

/* Of one client (peer NULL: of the client with the most). */
static struct pump *longest_idle(struct pump_set *set, const struct peer *peer)
{
    struct pump *found = NULL;
    size_t most = 0;

    for (struct pump *p = set->first; p; p = p->next) {
        size_t n = !is_idle(p) || p->dead ? 0 : peer ? peer_same(&p->peer, peer) : count_of(set, &p->peer);

        if (n > most || (n > 0 && n == most && p->used_ms < found->used_ms)) {
            most = n;
            found = p;
        }
    }
    return found;
}

bool pump_set_spare(struct pump_set *set)
{
    struct pump *p = longest_idle(set, NULL);

    if (p)
        pump_kill(p);
    return p != NULL;
}

/* NULL when there is room now, else the error. */
static const char *make_room(struct pump_set *set, const struct peer *peer, int *ret_status)
{
    bool full = set->count >= set->max, client_full = count_of(set, peer) >= set->client_max;
    struct pump *victim = full || client_full ? longest_idle(set, client_full ? peer : NULL) : NULL;

    if (victim)
        pump_kill(victim);
    if (victim || (!full && !client_full))
        return NULL;
    *ret_status = client_full ? 429 : 503;
    return client_full ? "This client has as many connections with requests under way as one client may have"
                       : "The server has as many connections with requests under way as it takes";
}

void pump_add(struct pump_set *set, struct wire wire, const struct peer *peer)
{
    struct pump *p;
    int pair[2] = {-1, -1}, status = 0;
    const char *full = make_room(set, peer, &status);

    if (set->closing || (full && set->count >= set->max + REFUSED_MAX) ||
        (!full && socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)) {
        wire.ops->free(&wire);
        close(wire.fd);
        return;
    }
    p = mem_new(struct pump);
    *p = (struct pump){.set = set, .next = set->first, .wire = wire, .peer = *peer, .http_fd = pair[0]};
    p->link = (struct http_link){.fd = pair[0], .refuse = refuse_link};
    p->used_ms = uv_now(set->loop);
    if (p->next)
        p->next->prev = p;
    set->first = p;
    set->count++;
    p->open_handles = full ? 2 : 3;
    uv_timer_init(set->loop, &p->linger);
    if (uv_poll_init(set->loop, &p->net, wire.fd) != 0 || (!full && uv_poll_init(set->loop, &p->http, pair[0]) != 0))
        abort();
    p->linger.data = p->net.data = p->http.data = p;
    if (full)
        refuse(p, status, full, 1);
    else
        http_server_add(set->http, pair[1], peer, &p->link);
    pump_run(p);
}

void pump_set_review(struct pump_set *set, void *owner,
                     const char *(*wrong)(void *owner, const struct wire *wire, const struct peer *peer))
{
    for (struct pump *p = set->first, *next; p; p = next) {
        const char *reason = p->dead ? NULL : wrong(owner, &p->wire, &p->peer);

        next = p->next;
        if (!reason)
            continue;
        log_warning(&(struct log_ctx){.client = p->peer.name}, "a connection of '%s' is cut: %s", p->peer.name, reason);
        pump_kill(p);
    }
}

void pump_set_init(struct pump_set *set, uv_loop_t *loop, struct http_server *http, struct memory *memory, size_t max,
                   size_t client_max)
{
    *set = (struct pump_set){
        .loop = loop, .http = http, .memory = memory, .max = max, .client_max = client_max, .open_handles = 1};
    uv_timer_init(loop, &set->last_call);
    set->last_call.data = set;
}

static void on_last_call(uv_timer_t *timer)
{
    struct pump_set *set = timer->data;

    for (struct pump *p = set->first, *next; p; p = next) {
        next = p->next;
        pump_kill(p);
    }
}

void pump_set_close(struct pump_set *set, void *owner, void (*closed)(void *owner))
{
    set->closing = true;
    set->owner = owner;
    set->closed = closed;
    uv_timer_start(&set->last_call, on_last_call, LAST_CALL_MS, 0);
    for (struct pump *p = set->first, *next; p; p = next) {
        next = p->next;
        if (is_idle(p))
            pump_kill(p);
    }
    maybe_closed(set);
}
