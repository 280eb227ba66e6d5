/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/network/connections.h"

#include "agent/events/event.h"
#include "agent/preflight.h"
#include "agent/ticker.h"
#include "base/clock.h"
#include "base/log.h"

enum {
    PERIOD_MS = 2000,
    HIGH_PERCENT = 70, /* of the table: it fills; below LOW_PERCENT it does not any more */
    LOW_PERCENT = 60,
    /* So often at most a container's entries that were never answered go. Each makes room for one more neighbour that
     * the host looks for. */
    TIDY_MS = 15000,
    /* So long a container must have kept to its limit, or there would be an event every few seconds. */
    QUIET_MS = 60000,
};
#define TABLE_REMEDY                                                                                                   \
    "see who has them with \"conntrack -L\", stop the container or give it a limit (\"nodectl limits\"), or raise "    \
    "net.netfilter.nf_conntrack_max"
#define UNCOUNTED_REMEDY                                                                                               \
    "let it load the modules nft_connlimit and nft_hash, then restart noded; until then give containers limits "       \
    "(\"nodectl limits\")"
#define CONTAINER_REMEDY                                                                                               \
    "look for what in the container opens them; if it needs so many, give it a limit of its own (\"nodectl "           \
    "limits\"), "                                                                                                      \
    "or raise network.connections_share or net.netfilter.nf_conntrack_max"

struct at_limit {
    char id[25]; /* of the container; empty: free */
    int64_t seen_ms;
};

struct tidied {
    int slot;
    int64_t at_ms;
};

struct connections {
    struct agent *agent;
    struct ticker ticker;
    bool looking, filling, failed, uncounted;
    struct nf_connections now; /* as last seen */
    struct at_limit at_limit[NF_AT_LIMIT_MAX];
    struct tidied tidied[NF_AT_LIMIT_MAX]; /* of the network lane */
};

struct look {
    struct connections *of;
    struct nf *nf;
    struct nf_connections found;
};

static void on_recorded(void *owner, struct err *e)
{
    (void)owner;
    log_err(NULL, LOG_LEVEL_ERR, e, "an event about connections is not recorded");
}

/* container_id, direction and remedy may be NULL. */
static void tell(const struct connections *c, const char *state, const char *container_id, const char *direction,
                 const char *remedy)
{
    struct agent *a = c->agent;
    struct store_tx *tx = store_tx_new();

    event_add_for(a, tx, "server.health_changed", "server", a->node_id, NULL, container_id,
                  json_pack("{s:s, s:s, s:I, s:I, s:I, s:s?, s:s?}", "component", "connections", "state", state, "used",
                            (json_int_t)c->now.count, "max", (json_int_t)c->now.max, "share", (json_int_t)c->now.share,
                            "direction", direction, "remedy", remedy));
    agent_commit(a, tx, NULL, on_recorded);
}

static void judge_table(struct connections *c)
{
    int64_t percent = c->now.max > 0 ? c->now.count * 100 / c->now.max : 0;

    if (!c->uncounted && c->now.uncounted) {
        log_warning(
            NULL,
            "the kernel cannot count connections, a container may fill the host's connection table: " UNCOUNTED_REMEDY);
        tell(c, "uncounted", NULL, NULL, UNCOUNTED_REMEDY);
    }
    c->uncounted = c->now.uncounted;
    if (!c->filling && percent >= HIGH_PERCENT) {
        c->filling = true;
        log_warning(NULL, "the host's connection table has %lld of %lld entries: " TABLE_REMEDY,
                    (long long)c->now.count, (long long)c->now.max);
        tell(c, "filling", NULL, NULL, TABLE_REMEDY);
    } else if (c->filling && percent < LOW_PERCENT) {
        c->filling = false;
        log_notice(NULL, "the host's connection table has room again: %lld of %lld entries are used",
                   (long long)c->now.count, (long long)c->now.max);
        tell(c, "ok", NULL, NULL, NULL);
    }
}

static struct at_limit *find(struct connections *c, const char *id)
{
    for (size_t i = 0; i < NF_AT_LIMIT_MAX; i++)
        if (strcmp(c->at_limit[i].id, id) == 0)
            return &c->at_limit[i];
    return NULL;
}

static const char *direction_word(uint32_t directions)
{
    if (directions == (NF_BEGUN_BY_IT | NF_BEGUN_TO_IT))
        return "both";
    return directions == NF_BEGUN_BY_IT ? "begun by it" : "begun to it";
}

static void see(struct connections *c, const struct nf_at_limit *seen, int64_t now)
{
    const struct container *of = agent_find_by_slot(c->agent, seen->slot);
    struct at_limit *known = of ? find(c, of->record.id) : NULL;
    const char *direction = direction_word(seen->directions);

    if (of && !known && (known = find(c, ""))) {
        const struct log_ctx ctx = {.container = of->record.id};

        snprintf(known->id, sizeof(known->id), "%s", of->record.id);
        log_warning(&ctx,
                    "the container has its share of the host's connection table, %lld connections, and wants more "
                    "(%s): " CONTAINER_REMEDY,
                    (long long)c->now.share, direction);
        tell(c, "limited", of->record.id, direction, CONTAINER_REMEDY);
    }
    if (known)
        known->seen_ms = now;
}

static void judge_containers(struct connections *c)
{
    int64_t now = clock_mono_ms();

    for (size_t i = 0; i < c->now.at_limit_count; i++)
        see(c, &c->now.at_limit[i], now);
    for (size_t i = 0; i < NF_AT_LIMIT_MAX; i++) {
        struct at_limit *known = &c->at_limit[i];
        const struct log_ctx ctx = {.container = known->id};

        if (!known->id[0] || now - known->seen_ms < QUIET_MS)
            continue;
        if (agent_find_any(c->agent, known->id)) {
            log_notice(&ctx, "the container keeps to its share of the host's connection table again");
            tell(c, "ok", known->id, NULL, NULL);
        }
        known->id[0] = '\0';
    }
}

static void on_resized(void *owner, struct err *e)
{
    (void)owner;
    log_err(NULL, LOG_LEVEL_ERR, e, "the limits of connections are not fitted to the new size of the table");
}

/* The slot's last time is now, if that is long enough ago. */
static bool is_due(struct tidied *list, int slot, int64_t now)
{
    struct tidied *oldest = list;

    for (size_t i = 0; i < NF_AT_LIMIT_MAX; i++) {
        if (list[i].slot == slot) {
            oldest = &list[i];
            break;
        }
        if (list[i].at_ms < oldest->at_ms)
            oldest = &list[i];
    }
    if (oldest->slot && now - oldest->at_ms < TIDY_MS)
        return false; /* it, or all that there is place for */
    *oldest = (struct tidied){slot, now};
    return true;
}

static struct err *run(void *arg)
{
    struct look *l = arg;
    struct err *e = nf_connections(l->nf, &l->found);

    for (size_t i = 0; !e && i < l->found.at_limit_count; i++)
        if (is_due(l->of->tidied, l->found.at_limit[i].slot, clock_mono_ms()))
            e = nf_connections_tidy(l->nf, l->found.at_limit[i].slot);
    return e;
}

static void on_looked(void *arg, struct err *e)
{
    autofree struct look *l = arg;
    struct connections *c = l->of;

    c->looking = false;
    if (e) {
        log_err(NULL, c->failed ? LOG_LEVEL_DEBUG : LOG_LEVEL_ERR, e, "the connection table is not looked at");
        c->failed = true;
        return;
    }
    c->failed = false;
    if (c->agent->stopping)
        return;
    c->now = l->found;
    judge_table(c);
    judge_containers(c);
    if (c->now.resized)
        net_sync(c->agent, c, on_resized);
}

static void on_timer(uv_timer_t *timer)
{
    struct connections *c = timer->data;
    struct look *l;

    if (c->looking || c->agent->stopping)
        return;
    l = mem_new(struct look);
    *l = (struct look){.of = c, .nf = c->agent->nf};
    c->looking = true;
    lane_submit(c->agent->net_lane, run, l, on_looked);
}

struct connections *connections_start(struct agent *a)
{
    struct connections *c = mem_new(struct connections);

    preflight_connections();
    c->agent = a;
    ticker_init(&c->ticker, a->loop, c);
    uv_timer_start(&c->ticker.timer, on_timer, 0, PERIOD_MS);
    return c;
}

void connections_close(struct connections *c, void *owner, void (*closed)(void *owner))
{
    ticker_close(&c->ticker, free, owner, closed);
}

json_t *connections_json(const struct agent *a)
{
    const struct connections *c = a->connections;
    json_t *at_limit = json_array();

    for (size_t i = 0; c && i < NF_AT_LIMIT_MAX; i++)
        if (c->at_limit[i].id[0])
            json_array_append_new(at_limit, json_string(c->at_limit[i].id));
    return json_pack("{s:s, s:I, s:I, s:I, s:I, s:o}", "state",
                     c && c->filling     ? "filling"
                     : c && c->uncounted ? "uncounted"
                                         : "ok",
                     "used", (json_int_t)(c ? c->now.count : 0), "max", (json_int_t)(c ? c->now.max : 0), "share",
                     (json_int_t)(c ? c->now.share : 0), "all", (json_int_t)(c ? c->now.all : 0), "at_limit", at_limit);
}
