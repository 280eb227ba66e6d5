/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/network/drift.h"

#include "agent/api/api.h"
#include "agent/events/event.h"
#include "agent/network/conflict.h"
#include "agent/network/connections.h"
#include "agent/network/ipv6.h"
#include "base/clock.h"
#include "base/log.h"

enum {
    HANDLES = 3,
    GATHER_MS = 50,      /* one command of an administrator is many messages */
    CONTEST_REPAIRS = 8, /* so many repairs within CONTEST_MS: another program wants it otherwise */
    CONTEST_MS = 60000,
    CONTEST_PAUSE_MS = 1000, /* between repairs then, or ten times as long as one takes */
    RETRY_MAX_MS = 30000,    /* after failures; they begin at CONTEST_PAUSE_MS */
    FOREIGN_MS = 300,        /* another firewall writes its chains */
    LOST_AGAIN_MS = 1000,    /* a container that ends loses its link before its end is seen */
};

struct drift {
    struct agent *agent;
    struct nf_watch *watch;
    uv_poll_t poll;
    uv_timer_t timer, foreign_timer;
    int open; /* handles */
    void *owner;
    void (*closed)(void *owner);

    unsigned seen;        /* and not repaired yet */
    struct nf_drift news; /* in words */
    bool running, contested, failed;
    int64_t begun_ms, not_before_ms, retry_ms;
    int64_t times[CONTEST_REPAIRS]; /* of the last repairs, a ring */
    int64_t repairs, last_repair_at;
    uint8_t lost[NET_SLOT_MAX / 8 + 1], told[NET_SLOT_MAX / 8 + 1]; /* links: seen so once, and reported */
};

static void plan(struct drift *d);

static bool bit(const uint8_t *bits, int slot)
{
    return bits[slot / 8] & (1 << (slot % 8));
}

static json_t *found_json(const struct drift *d, const struct nf_drift *drift)
{
    json_t *list = json_array();

    for (size_t i = 0; i < drift->count; i++) {
        const struct container *c = agent_find_by_slot(d->agent, drift->found[i].slot);

        json_array_append_new(list, json_pack("{s:s, s:s?}", "what", drift->found[i].what, "container_id",
                                              c && drift->found[i].slot ? c->record.id : NULL));
    }
    return list;
}

static void on_recorded(void *owner, struct err *e)
{
    (void)owner;
    log_err(NULL, LOG_LEVEL_ERR, e, "an event about the network is not recorded");
}

void drift_tell(struct agent *a, const char *state, const char *container_id, json_t *found, const char *remedy)
{
    struct store_tx *tx = store_tx_new();

    event_add_for(a, tx, "server.health_changed", "server", a->node_id, NULL, container_id,
                  json_pack("{s:s, s:s, s:I, s:o, s:s?}", "component", "network", "state", state, "repairs",
                            (json_int_t)(a->drift ? a->drift->repairs : 0), "found", found, "remedy", remedy));
    agent_commit(a, tx, NULL, on_recorded);
}

static void log_found(const struct nf_drift *drift)
{
    for (size_t i = 0; i < drift->count; i++)
        log_notice(NULL, "changed by another program and put right: %s", drift->found[i].what);
    if (drift->total > drift->count)
        log_notice(NULL, "and %zu changes more", drift->total - drift->count);
}

/* Keeps the time of a repair; true when they come too often. */
static bool too_often(struct drift *d, int64_t now)
{
    int64_t *oldest = &d->times[d->repairs % CONTEST_REPAIRS];
    bool often = d->repairs >= CONTEST_REPAIRS && now - *oldest < CONTEST_MS;

    *oldest = now;
    d->repairs++;
    d->last_repair_at = clock_wall_ms();
    return often;
}

static void repaired(struct drift *d, const struct nf_drift *drift, int64_t now)
{
    bool often = too_often(d, now);

    if (often && !d->contested) {
        d->contested = true;
        log_found(drift);
        log_warning(NULL,
                    "another program goes on changing the node's network: it is put right once a second at most, and "
                    "not logged each time. Find out who it is with \"nft monitor\" and \"ip monitor\"");
        drift_tell(d->agent, "contested", NULL, found_json(d, drift),
                   "find the program that changes it with \"nft monitor\" and \"ip monitor\"");
    } else if (!d->contested) {
        log_found(drift);
        drift_tell(d->agent, "repaired", NULL, found_json(d, drift), NULL);
    }
    if (d->contested)
        d->not_before_ms = now + MAX((now - d->begun_ms) * 10, (int64_t)CONTEST_PAUSE_MS);
}

/* A link that is missing in two looks, of a container that should run. It cannot be made anew from outside: its other
 * end belongs into the container, set up there. */
static void report_lost(struct drift *d, const struct nf_drift *drift)
{
    struct agent *a = d->agent;
    bool again = false;

    for (size_t i = 0; i < a->container_count; i++) {
        const struct container *c = a->containers[i];
        const struct log_ctx ctx = {.container = c->record.id};
        int slot = (int)c->record.slot;
        uint8_t mask = (uint8_t)(1 << (slot % 8));

        if (!bit(drift->lost, slot) || c->op || !c->init_pid || bit(d->told, slot))
            continue;
        if (!bit(d->lost, slot)) {
            d->lost[slot / 8] |= mask;
            again = true;
            continue;
        }
        d->told[slot / 8] |= mask;
        log_warning(&ctx, "another program deleted the network interface of the container: restart the container");
        drift_tell(d->agent, "degraded", c->record.id,
                   json_pack("[{s:s, s:s}]", "what", "interface of the container", "container_id", c->record.id),
                   "restart the container");
    }
    if (again) {
        d->seen |= NF_SEEN_HOST;
        d->not_before_ms = MAX(d->not_before_ms, clock_mono_ms() + LOST_AGAIN_MS);
    }
}

static void on_repaired(void *owner, struct err *e, const struct nf_drift *drift)
{
    struct drift *d = owner;
    int64_t now = clock_mono_ms();

    d->running = false;
    if (e) {
        d->retry_ms = MIN(MAX(d->retry_ms * 2, (int64_t)CONTEST_PAUSE_MS), (int64_t)RETRY_MAX_MS);
        d->not_before_ms = now + d->retry_ms;
        d->seen |= NF_SEEN_TABLE | NF_SEEN_HOST;
        if (!d->failed)
            drift_tell(d->agent, "failed", NULL, found_json(d, drift), NULL);
        d->failed = true;
        log_err(NULL, LOG_LEVEL_ERR, e, "the network could not be put right, trying again");
    } else {
        d->failed = false;
        d->retry_ms = 0;
        if (drift->total)
            repaired(d, drift, now);
        report_lost(d, drift);
    }
    plan(d);
}

static void on_timer(uv_timer_t *timer)
{
    struct drift *d = timer->data;
    int64_t now = clock_mono_ms();

    if (d->contested && now - d->times[(d->repairs - 1) % CONTEST_REPAIRS] >= CONTEST_MS) {
        d->contested = false;
        log_notice(NULL, "the node's network is not changed by others any more");
        drift_tell(d->agent, "ok", NULL, json_array(), NULL);
    }
    if (d->seen & (NF_SEEN_TABLE | NF_SEEN_HOST) && !d->running && !d->agent->stopping && now >= d->not_before_ms) {
        d->running = true;
        d->begun_ms = now;
        net_repair(d->agent, d->seen & NF_SEEN_TABLE, &d->news, d, on_repaired);
        d->seen = 0;
        d->news = (struct nf_drift){0};
    }
    plan(d);
}

/* The next time that there is something to do. */
static void plan(struct drift *d)
{
    int64_t now = clock_mono_ms();

    if (d->open < HANDLES || d->running)
        return;
    if (d->seen & (NF_SEEN_TABLE | NF_SEEN_HOST))
        uv_timer_start(&d->timer, on_timer, (uint64_t)MAX(d->not_before_ms - now, (int64_t)GATHER_MS), 0);
    else if (d->contested)
        uv_timer_start(&d->timer, on_timer, CONTEST_MS, 0);
}

static void on_foreign(uv_timer_t *timer)
{
    struct agent *a = ((struct drift *)timer->data)->agent;

    if (!a->stopping)
        conflicts_look(a);
}

static void on_seen(uv_poll_t *poll, int status, int events)
{
    struct drift *d = poll->data;
    unsigned seen = nf_watch_changed(d->watch, &d->news);
    bool first = !(d->seen & (NF_SEEN_TABLE | NF_SEEN_HOST));

    (void)status;
    (void)events;
    d->seen |= seen & (NF_SEEN_TABLE | NF_SEEN_HOST);
    /* Rules of others change all the time; they matter where one of their chains is in the way. */
    if ((seen & NF_SEEN_FOREIGN || (seen & NF_SEEN_FOREIGN_RULES && conflicts_possible(d->agent))) &&
        !uv_is_active((uv_handle_t *)&d->foreign_timer))
        uv_timer_start(&d->foreign_timer, on_foreign, FOREIGN_MS, 0);
    if (first)
        plan(d);
}

struct err *drift_start(struct agent *a, struct drift **ret)
{
    auto_(drift_free) struct drift *d = mem_new(struct drift);
    struct err *e = nf_watch_open(a->nf, &d->watch);

    if (e)
        return e;
    d->agent = a;
    d->poll.data = d->timer.data = d->foreign_timer.data = d;
    if (uv_poll_init(a->loop, &d->poll, nf_watch_fd(d->watch)) != 0)
        abort();
    uv_timer_init(a->loop, &d->timer);
    uv_timer_init(a->loop, &d->foreign_timer);
    uv_poll_start(&d->poll, UV_READABLE, on_seen);
    d->open = HANDLES;
    conflicts_look(a);
    *ret = steal(&d);
    return NULL;
}

static void on_closed(uv_handle_t *h)
{
    struct drift *d = h->data;

    if (--d->open == 0)
        d->closed(d->owner);
}

void drift_close(struct drift *d, void *owner, void (*closed)(void *owner))
{
    d->owner = owner;
    d->closed = closed;
    uv_close((uv_handle_t *)&d->poll, on_closed);
    uv_close((uv_handle_t *)&d->timer, on_closed);
    uv_close((uv_handle_t *)&d->foreign_timer, on_closed);
}

void drift_free(struct drift *d)
{
    if (!d)
        return;
    nf_watch_close(d->watch);
    free(d);
}

void drift_link_made(struct drift *d, int slot)
{
    if (!d)
        return;
    d->lost[slot / 8] &= (uint8_t) ~(1 << (slot % 8));
    d->told[slot / 8] &= (uint8_t) ~(1 << (slot % 8));
}

json_t *drift_json(const struct agent *a)
{
    const struct drift *d = a->drift;
    json_t *lost = json_array();

    for (size_t i = 0; d && i < a->container_count; i++)
        if (a->containers[i]->init_pid && !a->containers[i]->record.spare &&
            bit(d->told, (int)a->containers[i]->record.slot))
            json_array_append_new(lost, json_string(a->containers[i]->record.id));
    return json_pack("{s:s, s:I, s:o, s:o, s:o, s:o, s:o}", "state",
                     d && d->failed      ? "failed"
                     : d && d->contested ? "contested"
                                         : "ok",
                     "repairs", (json_int_t)(d ? d->repairs : 0), "last_repair_at", api_time(d ? d->last_repair_at : 0),
                     "lost_links", lost, "conflicts", conflicts_json(a), "connections", connections_json(a), "ipv6",
                     ipv6_json(a));
}
