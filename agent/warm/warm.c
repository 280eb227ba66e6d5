/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/warm/internal.h"

#include <stdio.h>

#include "agent/api/api.h"
#include "agent/events/event.h"
#include "agent/kits/upgrade.h"
#include "agent/kits/watch.h"
#include "agent/storage/space.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"

enum {
    PERIOD_MS = 200,
    LOOK_MS = 10000,     /* between two looks at the kits of one that waits */
    PATIENCE_MS = 30000, /* for somebody else to be through */
    SLOTS_LEFT = 16,
};

static void on_told(void *owner, struct err *e)
{
    (void)owner;
    log_err(NULL, LOG_LEVEL_WARNING, e, "an event of a pool of spare containers is not recorded");
}

static void tell(const struct warm *w, const char *type, const struct container *c, const char *reason)
{
    struct store_tx *tx = store_tx_new();

    event_add_for(w->agent, tx, type, "server", w->agent->node_id, NULL, NULL,
                  json_pack("{s:s, s:b, s:b, s:I, s:s?}", "image", c->record.image, "hoody_kit", c->record.hoody_kit,
                            "dev_kit", c->record.dev_kit, "slot", (json_int_t)c->record.slot, "reason", reason));
    agent_commit(w->agent, tx, NULL, on_told);
}

static void on_removed(struct operation *op, struct err *e)
{
    if (e)
        op->container->spare_looked_ms = clock_mono_ms(); /* not again at once */
    log_err(NULL, LOG_LEVEL_WARNING, e, "a spare container could not be removed; it is tried again");
}

static void remove_one(struct warm *w, struct container *c, const char *reason)
{
    struct operation *op = operation_new(w->agent, &op_delete, c, NULL, "system");
    struct warm_pool *pool = warm_pool_of(w, &c->record);

    log_notice(&(struct log_ctx){.container = c->record.id}, "the spare container in slot %lld goes: %s",
               (long long)c->record.slot, reason);
    tell(w, "server.pool.replaced", c, reason);
    if (pool)
        pool->replaced++;
    op->done = on_removed;
    operation_start(op, NULL);
}

/* At most one in a turn. */
static void remove_bad(struct warm *w)
{
    struct agent *a = w->agent;
    char reason[WARM_REASON_SIZE];

    for (size_t i = 0; i < a->container_count; i++) {
        struct container *c = a->containers[i];

        if (!c->record.spare || c->op ||
            (c->record.status == CONTAINER_FAILED && clock_mono_ms() - c->spare_looked_ms < LOOK_MS &&
             c->spare_looked_ms > 0))
            continue;
        warm_judge(w, c, reason);
        if (reason[0]) {
            remove_one(w, c, reason);
            return;
        }
    }
}

static void note_failure(struct warm_pool *pool, const char *reason)
{
    pool->failures = MIN(pool->failures + 1, WARM_RETRY_TIMES);
    pool->retry_ms = clock_mono_ms() + ((int64_t)WARM_RETRY_MS << pool->failures);
    str_set(&pool->error, reason);
}

static void on_made(struct operation *op, struct err *e)
{
    struct warm *w = op->agent->warm;
    struct container *c = op->container;
    struct warm_pool *pool = warm_pool_of(w, &c->record);
    int64_t ms;

    if (!e && json_array_size(c->record.kits) > 0 && !kit_watch_is_ready(c, &ms)) {
        c->spare_failed = true;
        e = upgrade_unhealthy(c->kit_health);
        if (!e)
            e = err_new(ERR_HOST, "its kits are not ready in time");
    }
    if (!e)
        c->spare_looked_ms = clock_mono_ms();
    if (pool && e)
        note_failure(pool, err_message(e));
    if (pool && !e) {
        pool->made++;
        pool->failures = 0;
        str_set(&pool->error, NULL);
        tell(w, "server.pool.refilled", c, NULL);
    }
    log_err(NULL, LOG_LEVEL_WARNING, e, "a spare container could not be made");
}

static void make(struct warm *w, struct warm_pool *pool)
{
    struct agent *a = w->agent;
    struct container *c = NULL;
    struct operation *op;
    struct err *e = api_new_container(a, NULL, "", NULL, &c);

    w->busy_since_ms = 0;
    if (e) {
        note_failure(pool, err_message(e));
        err_free(e);
        return;
    }
    warm_fill(a, c, str_dup(pool->want.image), pool->want.hoody_kit, pool->want.dev_kit);
    c->record.spare = warm_made_with(a->config);
    c->record.ramdisk = true;
    c->record.status = CONTAINER_CREATING;
    agent_add(a, c);
    op = operation_new(a, &op_create, c, NULL, "system");
    op->done = on_made;
    operation_start(op, NULL);
}

/* How long tasks have waited for the processor of late, in percent; 0 where the kernel does not say. */
static double pressure(void)
{
    autofree char *text = NULL;
    struct err *e = fd_read_file("/proc/pressure/cpu", 4096, &text, NULL);
    double percent = 0;

    if (!e && sscanf(text, "some avg10=%lf", &percent) != 1)
        percent = 0;
    err_ignore(e);
    return percent;
}

static bool is_making(const struct agent *a)
{
    for (size_t i = 0; i < a->container_count; i++)
        if (a->containers[i]->record.spare && a->containers[i]->op && a->containers[i]->op->kind == &op_create)
            return true;
    return false;
}

/* Whatever somebody waits for comes first. But an operation may take hours, as a copy from another node, and one may
 * follow upon the other: the pool does not wait for ever. */
static bool is_busy(struct warm *w)
{
    const struct agent *a = w->agent;

    if (a->operations == 0 && workers_count(a->workers) == 0)
        w->busy_since_ms = 0;
    else if (w->busy_since_ms == 0)
        w->busy_since_ms = clock_mono_ms();
    return is_making(a) || (w->busy_since_ms > 0 && clock_mono_ms() - w->busy_since_ms < PATIENCE_MS);
}

/* Why nothing is to be made now, or NULL. */
static const char *held_off(struct warm *w)
{
    const struct agent *a = w->agent;

    if (is_busy(w))
        return "busy";
    if (space_state(a) != SPACE_OK)
        return "space";
    if ((int64_t)a->container_count + SLOTS_LEFT > net_plan_max_slot(&a->plan))
        return "slots"; /* the last ones are for those that somebody asks for */
    return pressure() > (double)a->config->warm_pressure ? "pressure" : NULL;
}

static void refill(struct warm *w)
{
    w->waits = NULL;
    for (size_t i = 0; i < w->count; i++) {
        struct warm_pool *pool = &w->pools[i];
        size_t n = warm_count_of(w, pool);

        if (n < (size_t)pool->want.low)
            pool->filling = true;
        else if (n >= (size_t)pool->want.high)
            pool->filling = false;
        if (!pool->filling || clock_mono_ms() < pool->retry_ms)
            continue;
        w->waits = held_off(w);
        if (w->waits)
            return;
        if (!warm_image_for(w->agent, pool->want.image, pool->want.dev_kit)) {
            note_failure(pool, "this server has no such image");
            continue;
        }
        make(w, pool);
        return;
    }
    w->busy_since_ms = 0; /* no pool has anything to wait for */
}

struct look {
    struct agent *agent;
    char *id;
};

static void on_looked(void *owner, struct err *e, json_t *result)
{
    struct look *look = owner;
    struct container *c = agent_find_any(look->agent, look->id);
    const json_t *services = json_object_get(result, "services");

    if (c && c->record.spare && !c->op && services)
        upgrade_note_health(c, services);
    err_ignore(e); /* one that ends is seen otherwise */
    json_decref(result);
    free(look->id);
    free(look);
}

/* One that waits for long may fall ill. At most one is asked in a turn. */
static void look_at_one(const struct warm *w)
{
    struct agent *a = w->agent;
    int64_t now = clock_mono_ms();

    for (size_t i = 0; i < a->container_count; i++) {
        struct container *c = a->containers[i];
        const struct job_kits args = {.before = c->record.kits, .kits = c->record.kits, .timeout_ms = 1};
        struct look *look;

        if (json_array_size(c->record.kits) == 0 || now - c->spare_looked_ms < LOOK_MS || !warm_is_ready(w, c))
            continue;
        c->spare_looked_ms = now;
        look = mem_new(struct look);
        *look = (struct look){a, str_dup(c->record.id)};
        agent_wait_job(a, JOB_KITS, c->record.slot, &args, 0, look, on_looked);
        return;
    }
}

static void on_timer(uv_timer_t *timer)
{
    struct warm *w = timer->data;

    if (w->agent->stopping)
        return;
    if (w->count == 0 && agent_shown_count(w->agent) == w->agent->container_count) {
        uv_timer_stop(timer); /* no pool is configured, and none of an earlier one is left */
        return;
    }
    remove_bad(w);
    refill(w);
    look_at_one(w);
}

struct warm *warm_start(struct agent *a)
{
    struct warm *w = mem_new(struct warm);

    w->agent = a;
    for (char **p = a->config->warm_pools; p && *p; p++) {
        w->pools = mem_grow(w->pools, w->count + 1, sizeof(*w->pools));
        w->pools[w->count] = (struct warm_pool){0};
        err_ignore(config_warm(*p, &w->pools[w->count++].want)); /* checked when it was read */
    }
    ticker_init(&w->ticker, a->loop, w);
    uv_timer_start(&w->ticker.timer, on_timer, PERIOD_MS, PERIOD_MS);
    return w;
}

static void warm_free(void *part)
{
    struct warm *w = part;

    for (size_t i = 0; i < w->count; i++) {
        free(w->pools[i].want.image);
        free(w->pools[i].error);
        free(w->pools[i].claim_error);
    }
    free(w->pools);
    w->agent->warm = NULL;
    free(w);
}

void warm_close(struct warm *w, void *owner, void (*closed)(void *owner))
{
    ticker_close(&w->ticker, warm_free, owner, closed);
}
