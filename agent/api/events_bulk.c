/* SPDX-License-Identifier: Apache-2.0 */
/* Events in bulk: figures, deletion by filter, retention on request. */
#include "agent/events/event.h"
#include "agent/events/filter.h"
#include "agent/events/trim.h"
#include "base/clock.h"

enum { BITE = 500, DAY_MS = 86400000 };

struct bulk {
    struct agent *agent;
    struct http_request *req;
    struct event_filter f;
    json_t *rows;
    int64_t last, bite, deleted;
};

static struct bulk *bulk_new(const struct api_call *call)
{
    struct bulk *b = mem_new(struct bulk);

    *b = (struct bulk){.agent = call->agent, .req = call->req, .last = events_last(call->agent)};
    return b;
}

static void bulk_free(struct bulk *b)
{
    event_filter_clear(&b->f);
    json_decref(b->rows);
    free(b);
}

static void count_in(json_t *counts, const json_t *key, int64_t n)
{
    const char *word = json_string_value(key);
    const json_t *before = json_object_get(counts, word);

    json_object_set_new(counts, word, json_integer(json_integer_value(before) + n));
}

static struct err *read_stats(void *arg)
{
    struct bulk *b = arg;

    return store_query(b->agent->reader, STORE_EVENT_STATS, event_filter_params(&b->f), &b->rows);
}

static void answer_stats(void *arg, struct err *e)
{
    struct bulk *b = arg;
    int64_t total = 0, oldest = 0, newest = 0;
    json_t *types, *resources, *row;
    size_t i;

    if (e) {
        reply_err(b->req, e);
        bulk_free(b);
        return;
    }
    types = json_object();
    resources = json_object();
    json_array_foreach(b->rows, i, row)
    {
        int64_t n = json_integer_value(json_object_get(row, "count"));
        int64_t first = json_integer_value(json_object_get(row, "oldest"));

        total += n;
        count_in(types, json_object_get(row, "event_type"), n);
        count_in(resources, json_object_get(row, "resource_type"), n);
        oldest = oldest == 0 ? first : MIN(oldest, first);
        newest = MAX(newest, json_integer_value(json_object_get(row, "newest")));
    }
    reply_ok(b->req, 200, "Event statistics retrieved successfully",
             api_without_nulls(json_pack("{s:I, s:o, s:o, s:o, s:o}", "total_events", (json_int_t)total, "by_type",
                                         types, "by_resource", resources, "oldest_event", api_time(oldest),
                                         "newest_event", api_time(newest))));
    bulk_free(b);
}

void events_stats(struct api_call *call)
{
    struct bulk *b = bulk_new(call);
    struct err *e = event_filter_load(call, &b->f);

    if (e) {
        bulk_free(b);
        reply_err(call->req, e);
        return;
    }
    lane_submit(call->agent->read_lane, read_stats, b, answer_stats);
}

/* On the store lane. What comes in meanwhile stays. */
static struct err *delete_bite(void *arg)
{
    struct bulk *b = arg;
    json_t *params = event_filter_params(&b->f);

    json_array_append_new(params, json_integer(BITE));
    json_array_append_new(params, json_integer(b->last));
    return store_change(b->agent->store, event_filter_statement(&b->f, EVENT_DELETE), params, &b->bite);
}

static void bitten(void *arg, struct err *e)
{
    struct bulk *b = arg;

    b->deleted += e ? 0 : b->bite;
    if (!e && b->bite == BITE) {
        lane_submit(b->agent->store_lane, delete_bite, b, bitten);
        return;
    }
    if (e)
        reply_err(b->req, e);
    else
        reply_ok(b->req, 200, "Events deleted successfully",
                 json_pack("{s:I}", "deleted_count", (json_int_t)b->deleted));
    bulk_free(b);
}

void events_delete(struct api_call *call)
{
    struct bulk *b = bulk_new(call);
    struct err *e = event_filter_load_strict(call, &b->f);

    if (!e && !b->f.any)
        e = err_reason(err_new(ERR_INVALID, "A deletion of events needs at least one filter"),
                       "INVALID_BULK_DELETE_PARAMS");
    if (e) {
        bulk_free(b);
        reply_err(call->req, e);
        return;
    }
    lane_submit(call->agent->store_lane, delete_bite, b, bitten);
}

struct cleanup_body {
    int64_t retention_days;
};
static const struct json_field cleanup_fields[] = {
    F_INT(struct cleanup_body, retention_days, .required = true, .min = 1, .max = 3650),
};
static JSON_TABLE(cleanup_table, NULL, cleanup_fields);

struct cleanup {
    struct http_request *req;
    int64_t days, cutoff_ms;
};

static void on_cleaned(void *owner, struct err *e, int64_t deleted)
{
    struct cleanup *c = owner;

    if (e)
        reply_err(c->req, e);
    else
        reply_ok(c->req, 200, "Events cleaned up successfully",
                 json_pack("{s:I, s:I, s:o}", "deleted_count", (json_int_t)deleted, "retention_days",
                           (json_int_t)c->days, "cutoff_date", api_time(c->cutoff_ms)));
    free(c);
}

void events_cleanup(struct api_call *call)
{
    struct cleanup_body body = {0};
    struct err *e = json_table_load(&cleanup_table, call->body, &body, NULL);
    struct cleanup *c;

    if (e) {
        reply_err(call->req, e);
        return;
    }
    c = mem_new(struct cleanup);
    *c = (struct cleanup){
        .req = call->req, .days = body.retention_days, .cutoff_ms = clock_wall_ms() - body.retention_days * DAY_MS};
    event_trim(call->agent, c->cutoff_ms, 0, c, on_cleaned);
}
