/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/events/trim.h"

#include "agent/events/event.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"

enum { BITE = 500, PERIOD_MS = 60000, DAY_MS = 86400000 };

struct trim {
    struct agent *agent;
    int64_t before_ms, keep_from, deleted;
    int64_t last, bite; /* of this bite: number of the last event, how many */
    void *owner;
    void (*done)(void *owner, struct err *e, int64_t deleted);
};

/* On the store lane. Numbers and times grow together, so what may go stands at the front. */
static struct err *bite(void *arg)
{
    struct trim *t = arg;
    auto_(store_tx_free) struct store_tx *tx = store_tx_new();
    autojson rows = NULL;
    autofree char *last = NULL;
    json_t *row;
    size_t i;
    struct err *e = store_query(t->agent->store, STORE_EVENT_OLDEST, json_pack("[i]", BITE), &rows);

    t->bite = 0;
    if (e)
        return e;
    json_array_foreach(rows, i, row)
    {
        int64_t seq = json_integer_value(json_object_get(row, "seq"));

        if (seq >= t->keep_from && json_integer_value(json_object_get(row, "created_at")) >= t->before_ms)
            break;
        t->last = seq;
        t->bite++;
    }
    if (t->bite == 0)
        return NULL;
    last = str_fmt("%lld", (long long)t->last);
    store_tx_add(tx, STORE_EVENT_TRIM, json_pack("[I]", (json_int_t)t->last));
    store_tx_add(tx, STORE_META_PUT, json_pack("[s, s]", "events_boundary", last));
    return store_commit(t->agent->store, tx);
}

static void bitten(void *arg, struct err *e)
{
    struct trim *t = arg;

    if (!e && t->bite > 0) {
        t->deleted += t->bite;
        events_move_boundary(t->agent, t->last);
    }
    if (!e && t->bite == BITE && !t->agent->stopping) {
        lane_submit(t->agent->store_lane, bite, t, bitten);
        return;
    }
    t->done(t->owner, e, t->deleted);
    free(t);
}

void event_trim(struct agent *a, int64_t before_ms, int64_t keep_from, void *owner,
                void (*done)(void *owner, struct err *e, int64_t deleted))
{
    struct trim *t = mem_new(struct trim);

    *t = (struct trim){.agent = a, .before_ms = before_ms, .keep_from = keep_from, .owner = owner, .done = done};
    lane_submit(a->store_lane, bite, t, bitten);
}

struct retention {
    struct agent *agent;
    uv_timer_t timer;
    bool busy, closing;
    int64_t logs; /* status logs that the last bite removed */
    void *owner;
    void (*closed)(void *owner);
};

static void rest(struct retention *r, struct err *e)
{
    r->busy = false;
    if (e)
        log_err(NULL, LOG_LEVEL_WARNING, e, "old events or status logs could not be removed; tried again in a minute");
    if (r->closing) {
        r->closed(r->owner);
        free(r);
    }
}

static struct err *bite_logs(void *arg)
{
    struct retention *r = arg;

    return store_change(
        r->agent->store, STORE_LOG_TRIM,
        json_pack("[I, i]", (json_int_t)(clock_wall_ms() - r->agent->config->status_log_days * DAY_MS), BITE),
        &r->logs);
}

static void logs_bitten(void *arg, struct err *e)
{
    struct retention *r = arg;

    if (!e && r->logs == BITE && !r->agent->stopping)
        lane_submit(r->agent->store_lane, bite_logs, r, logs_bitten);
    else
        rest(r, e);
}

static void on_trimmed(void *owner, struct err *e, int64_t deleted)
{
    struct retention *r = owner;

    if (deleted > 0)
        log_info(NULL, "%lld old events removed", (long long)deleted);
    if (e || r->agent->stopping)
        rest(r, e);
    else
        lane_submit(r->agent->store_lane, bite_logs, r, logs_bitten);
}

static void on_timer(uv_timer_t *timer)
{
    struct retention *r = timer->data;
    const struct config *c = r->agent->config;

    if (r->busy || r->agent->stopping)
        return;
    r->busy = true;
    event_trim(r->agent, clock_wall_ms() - c->events_days * DAY_MS, events_last(r->agent) - c->events_max + 1, r,
               on_trimmed);
}

struct retention *retention_start(struct agent *a)
{
    struct retention *r = mem_new(struct retention);

    r->agent = a;
    r->timer.data = r;
    uv_timer_init(a->loop, &r->timer);
    uv_timer_start(&r->timer, on_timer, 0, PERIOD_MS);
    return r;
}

static void on_closed(uv_handle_t *h)
{
    struct retention *r = h->data;

    r->closing = true;
    if (!r->busy)
        rest(r, NULL);
}

void retention_close(struct retention *r, void *owner, void (*closed)(void *owner))
{
    r->owner = owner;
    r->closed = closed;
    uv_close((uv_handle_t *)&r->timer, on_closed);
}
