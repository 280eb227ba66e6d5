/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/storage/space.h"
#include "agent/ticker.h"

#include <sys/statvfs.h>

#include "agent/events/event.h"
#include "agent/storage/reclaim.h"
#include "base/log.h"
#include "base/str.h"

#define PERIOD_MS 1000
#define REMEDY "delete containers or snapshots, or let the pool grow with \"nodectl storage grow\""

static const char *const words[] = {[SPACE_OK] = "ok", [SPACE_LOW] = "low", [SPACE_FULL] = "full"};

struct space {
    struct agent *agent;
    struct ticker ticker;
    enum space_state state;
};

struct room {
    int64_t total, free;
};

static bool look(const char *path, struct room *ret)
{
    struct statvfs fs;

    if (!path || statvfs(path, &fs) < 0)
        return false;
    *ret = (struct room){(int64_t)(fs.f_blocks * fs.f_frsize), (int64_t)(fs.f_bavail * fs.f_frsize)};
    return true;
}

/* Both are answered from the kernel's memory. Unknown counts as room: a check that fails stops nobody. */
static struct room look_around(const struct config *c)
{
    struct room pool = {INT64_MAX, INT64_MAX}, below;

    (void)look(c->pool, &pool);
    if (look(c->loop_file, &below))
        pool.free = MIN(pool.free, below.free);
    return pool;
}

static enum space_state judge(const struct config *c, const struct room *r)
{
    if (r->free < c->reserve)
        return SPACE_FULL;
    return r->free / 100 < r->total / 10000 * c->low_percent ? SPACE_LOW : SPACE_OK;
}

enum space_state space_state(const struct agent *a)
{
    const struct room r = look_around(a->config);

    return judge(a->config, &r);
}

static void on_recorded(void *owner, struct err *e)
{
    (void)owner;
    log_err(NULL, LOG_LEVEL_ERR, e, "an event about the pool is not recorded");
}

static void tell(struct agent *a, enum space_state state, const struct room *r)
{
    struct store_tx *tx = store_tx_new();
    const char *remedy = state == SPACE_OK ? NULL : REMEDY;

    if (state == SPACE_OK)
        log_notice(NULL, "the pool has room again: %lld MiB", (long long)r->free >> 20);
    else
        log_warning(NULL, "the pool has %lld MiB left%s: " REMEDY, (long long)r->free >> 20,
                    state == SPACE_FULL ? ", nothing new is begun" : "");
    event_add_for(a, tx, "server.health_changed", "server", a->node_id, NULL, NULL,
                  json_pack("{s:s, s:s, s:I, s:I, s:s?}", "component", "storage", "state", words[state], "total_bytes",
                            (json_int_t)r->total, "free_bytes", (json_int_t)r->free, "remedy", remedy));
    agent_commit(a, tx, NULL, on_recorded);
}

/* Back from a state only with a tenth more than it takes to get there: at the edge there would be an event a second. */
static void on_timer(uv_timer_t *timer)
{
    struct space *s = timer->data;
    const struct config *c = s->agent->config;
    const struct room r = look_around(c), less = {r.total, r.free - r.free / 11};
    enum space_state now = judge(c, &r);

    if (now < s->state)
        now = MAX(now, judge(c, &less));
    if (now == s->state || s->agent->stopping)
        return;
    s->state = now;
    tell(s->agent, now, &r);
}

struct err *space_check(const struct agent *a)
{
    const struct room r = look_around(a->config);

    if (judge(a->config, &r) != SPACE_FULL)
        return reclaim_check(a);
    return err_reason(err_new(ERR_HOST, "The pool is full: %lld MiB are left, %lld are kept in reserve; " REMEDY,
                              (long long)r.free >> 20, (long long)a->config->reserve >> 20),
                      "CONTAINER_HOST_COMMAND_FAILED");
}

json_t *space_json(const struct agent *a)
{
    const struct room r = look_around(a->config);

    return json_pack("{s:s, s:I, s:I, s:I, s:I}", "state", words[judge(a->config, &r)], "total_bytes",
                     (json_int_t)r.total, "free_bytes", (json_int_t)r.free, "reserve_bytes",
                     (json_int_t)a->config->reserve, "low_percent", (json_int_t)a->config->low_percent);
}

struct space *space_start(struct agent *a)
{
    struct space *s = mem_new(struct space);

    s->agent = a;
    ticker_init(&s->ticker, a->loop, s);
    uv_timer_start(&s->ticker.timer, on_timer, 0, PERIOD_MS);
    return s;
}

void space_close(struct space *s, void *owner, void (*closed)(void *owner))
{
    ticker_close(&s->ticker, free, owner, closed);
}
