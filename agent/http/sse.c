/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/http/sse.h"
#include "agent/ticker.h"

#include "agent/api/api.h"
#include "base/str.h"

/* How long a client waits before it comes again, in ms. */
#define HEAD "retry: 2000\n\n"
enum { HEARTBEAT_MS = 15000, STUCK_BEATS = 20 };

struct sse {
    struct sse_set *set;
    struct sse *prev, *next;
    struct http_stream *http;
    struct sse_config config;
    struct peer peer;
    size_t waiting;
    int stuck; /* heartbeats during which nothing was taken */
};

struct sse_set {
    struct agent *agent;
    struct sse *first;
    struct ticker ticker;
};

static void drop(struct sse *s)
{
    if (s->prev)
        s->prev->next = s->next;
    else
        s->set->first = s->next;
    if (s->next)
        s->next->prev = s->prev;
    free(s);
}

static void on_gone(void *owner)
{
    struct sse *s = owner;

    s->config.gone(s->config.owner);
    drop(s);
}

static void on_drained(void *owner)
{
    struct sse *s = owner;

    s->waiting = 0;
    s->stuck = 0;
    s->config.drained(s->config.owner);
}

static void on_heartbeat(uv_timer_t *timer)
{
    struct sse_set *set = timer->data;

    for (struct sse *s = set->first; s; s = s->next) {
        if (http_stream_waiting(s->http) == 0)
            http_stream_write(s->http, ":\n\n", 3);
        else if (++s->stuck == STUCK_BEATS)
            http_stream_cut(s->http);
    }
}

struct sse_set *sse_start(struct agent *a)
{
    struct sse_set *set = mem_new(struct sse_set);

    set->agent = a;
    ticker_init(&set->ticker, a->loop, set);
    uv_timer_start(&set->ticker.timer, on_heartbeat, HEARTBEAT_MS, HEARTBEAT_MS);
    return set;
}

void sse_close(struct sse_set *set, void *owner, void (*closed)(void *owner))
{
    while (set->first) {
        struct sse *s = set->first;

        s->config.gone(s->config.owner);
        sse_end(s);
    }
    ticker_close(&set->ticker, free, owner, closed);
}

/* How many there are of a kind, and how many of these are one client's. */
static int64_t count(const struct sse_set *set, enum sse_kind kind, const struct peer *peer)
{
    int64_t n = 0;

    for (const struct sse *s = set->first; s; s = s->next)
        n += s->config.kind == kind && (!peer || peer_same(&s->peer, peer));
    return n;
}

static struct err *check_room(const struct sse_set *set, enum sse_kind kind, const struct peer *peer)
{
    static const struct {
        const char *what, *key, *client_key;
    } words[] = {[SSE_EVENTS] = {"events", "events.streams", "events.client_streams"},
                 [SSE_ROUTES] = {"routes", "proxy.streams", "proxy.streams"}};
    const struct config *c = set->agent->config;
    int64_t all = count(set, kind, NULL), own = count(set, kind, peer);
    int64_t max = kind == SSE_EVENTS ? c->streams_max : c->feed_streams_max;
    int64_t client_max = kind == SSE_EVENTS ? c->client_streams_max : max / 2;
    struct err *e = NULL;

    if (all >= max)
        e = err_new(ERR_UNAVAILABLE, "This server has %lld readers of %s and takes no more: end some, or raise %s",
                    (long long)all, words[kind].what, words[kind].key);
    else if (own >= client_max)
        e = err_reason(
            err_new(ERR_TOO_MANY,
                    "'%s' has %lld readers of %s, and one client may have %lld: end some of them, or raise %s",
                    peer->name, (long long)own, words[kind].what, (long long)client_max, words[kind].client_key),
            "RATE_LIMIT_EXCEEDED");
    if (e)
        e->retry_after_s = 5;
    return e;
}

struct sse *sse_begin(struct sse_set *set, struct http_request *req, const struct sse_config *config)
{
    struct err *e = check_room(set, config->kind, http_peer(req));
    struct sse *s;

    if (e) {
        reply_err(req, e);
        return NULL;
    }
    s = mem_new(struct sse);
    *s = (struct sse){.set = set, .config = *config, .peer = *http_peer(req), .next = set->first};
    s->http = http_stream_begin(
        req, &(struct http_stream_config){
                 .content_type = SSE_CONTENT_TYPE, .owner = s, .drained = on_drained, .gone = on_gone});
    if (!s->http) {
        free(s);
        return NULL;
    }
    if (s->next)
        s->next->prev = s;
    set->first = s;
    http_stream_write(s->http, HEAD, strlen(HEAD));
    return s;
}

void sse_send(struct sse *s, const char *id, const char *event, const char *data)
{
    autofree char *text =
        str_fmt("%s%s%sevent: %s\ndata: %s\n\n", id ? "id: " : "", id ? id : "", id ? "\n" : "", event, data);

    http_stream_write(s->http, text, strlen(text));
    s->waiting++;
}

size_t sse_waiting(const struct sse *s)
{
    return s->waiting;
}

void sse_end(struct sse *s)
{
    http_stream_end(s->http);
    drop(s);
}
