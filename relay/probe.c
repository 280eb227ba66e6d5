/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whether the proxy works with us. Every connection through it tells; when there was none for a while, one is tried:
 * SOCKS5 up to the login, HTTP as a CONNECT to the first name server.
 */
#include "base/clock.h"
#include "base/str.h"
#include "relay/upstream.h"

enum { TICK_MS = 1000, GOOD_MS = 15000, BAD_MS = 2000, TELL_MS = 5000 };

struct probe {
    uv_timer_t timer;
    struct relay *relay;
    struct upstream *trying;
    bool known;
    char *problem; /* NULL: it works */
    int64_t checked_at, told_at;
};

static void stop_trying(struct probe *p)
{
    upstream_close(p->trying);
    p->trying = NULL;
}

static void on_opened(void *owner)
{
    stop_trying(owner);
}

static void on_failed(void *owner, enum upstream_failure failure, const char *problem)
{
    (void)failure;
    (void)problem;
    stop_trying(owner);
}

static void on_nothing(void *owner, const uint8_t *data, size_t len)
{
    (void)owner;
    (void)data;
    (void)len;
}

static const struct upstream_events events = {.opened = on_opened, .failed = on_failed, .data = on_nothing};

void probe_now(struct relay *r)
{
    struct probe *p = r->probe;

    if (!p->trying)
        p->trying = upstream_open(r, (const struct sockaddr *)&r->servers[0], HANDSHAKE_PROBE, &events, p);
}

void probe_note(struct relay *r, const char *problem)
{
    struct probe *p = r->probe;
    int64_t now = clock_wall_ms();
    bool news = !p->known || !str_eq(p->problem, problem);

    p->known = true;
    p->checked_at = now;
    if (news)
        str_set(&p->problem, problem);
    if (!news && now - p->told_at < TELL_MS)
        return;
    p->told_at = now;
    control_tell(r);
}

json_t *probe_status(const struct relay *r)
{
    const struct probe *p = r->probe;

    if (!p->known)
        return NULL;
    return json_pack("{s:{s:b, s:s?, s:I, s:o}}", "status", "reachable", p->problem == NULL, "problem", p->problem,
                     "checked_at", (json_int_t)p->checked_at, "udp", udp_status(r));
}

static void on_tick(uv_timer_t *timer)
{
    struct probe *p = timer->data;
    int64_t age = clock_wall_ms() - p->checked_at;

    if (age >= (p->problem ? BAD_MS : GOOD_MS) || age < 0)
        probe_now(p->relay);
}

void probe_start(struct relay *r)
{
    struct probe *p = mem_new(struct probe);

    p->relay = r;
    p->timer.data = p;
    r->probe = p;
    uv_timer_init(&r->loop, &p->timer);
    uv_timer_start(&p->timer, on_tick, TICK_MS, TICK_MS);
    probe_now(r);
}
