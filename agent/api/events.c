/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The history of events (contract, section 2.9), read on the read lane: pages by offset with filters, or by cursor,
 * oldest first, for clients that must not miss one.
 */
#include "agent/events/event.h"
#include "agent/events/filter.h"
#include "agent/events/json.h"
#include "agent/events/stream.h"
#include "base/str.h"

static const char *const sort_words[] = {"created_at", "event_type", NULL};
static const char *const order_words[] = {"desc", "asc", NULL};

struct page {
    struct agent *agent;
    struct http_request *req;
    struct event_filter f;
    int sort, order;
    int64_t limit, offset;
    bool by_cursor;
    int64_t after, last; /* last: the number of the newest event when it was asked */
    /* Results. */
    json_t *events;
    int64_t total, next;
    bool more;
};

static struct err *count(struct page *p, enum store_statement statement, json_t *params)
{
    autojson rows = NULL;
    struct err *e = store_query(p->agent->reader, statement, params, &rows);

    p->total = json_integer_value(json_object_get(json_array_get(rows, 0), "total"));
    return e;
}

/* On the read lane. By cursor, one row more than asked for tells whether there are more. */
static struct err *read_page(void *arg)
{
    struct page *p = arg;
    enum event_statement which = (enum event_statement)(EVENT_TIME_DESC + 2 * p->sort + p->order);
    autojson rows = NULL;
    json_t *params;
    struct err *e;

    if (p->by_cursor) {
        e = count(p, STORE_EVENT_COUNT_AFTER, json_pack("[I]", (json_int_t)p->after));
        if (!e)
            e = store_query(p->agent->reader, STORE_EVENT_AFTER,
                            json_pack("[I, I]", (json_int_t)p->after, (json_int_t)p->limit + 1), &rows);
    } else {
        e = count(p, event_filter_statement(&p->f, EVENT_COUNT), event_filter_params(&p->f));
        params = event_filter_params(&p->f);
        json_array_append_new(params, json_integer(p->limit));
        json_array_append_new(params, json_integer(p->offset));
        if (e)
            json_decref(params);
        else
            e = store_query(p->agent->reader, event_filter_statement(&p->f, which), params, &rows);
    }
    p->next = p->after;
    p->events = json_array();
    for (size_t i = 0; i < json_array_size(rows) && (int64_t)i < p->limit; i++) {
        p->next = json_integer_value(json_object_get(json_array_get(rows, i), "seq"));
        json_array_append_new(p->events, event_to_json(p->agent, json_array_get(rows, i)));
    }
    p->more = p->by_cursor ? (int64_t)json_array_size(rows) > p->limit
                           : p->offset + (int64_t)json_array_size(rows) < p->total;
    return e;
}

static void page_free(struct page *p)
{
    event_filter_clear(&p->f);
    json_decref(p->events);
    free(p);
}

static void answer_page(void *arg, struct err *e)
{
    struct page *p = arg;
    char next[CURSOR_SIZE], latest[CURSOR_SIZE];

    if (e) {
        reply_err(p->req, e);
        page_free(p);
        return;
    }
    events_cursor(p->agent, p->next, next);
    events_cursor(p->agent, MAX(p->last, p->next), latest);
    reply_ok(p->req, 200, "Events retrieved successfully",
             json_pack("{s:O, s:{s:I, s:I, s:I, s:b}, s:s?, s:s}", "events", p->events, "pagination", "total",
                       (json_int_t)p->total, "limit", (json_int_t)p->limit, "offset", (json_int_t)p->offset, "has_more",
                       p->more, "next_cursor", p->by_cursor ? next : NULL, "latest_cursor", latest));
    page_free(p);
}

/* `after` or `bootstrap`: the place is all that is asked for. */
static struct err *load_cursor(struct api_call *call, struct page *p)
{
    const char *after = http_query(call->req, "after");
    const char *other = event_filter_given(call);

    if (other)
        return err_field(other, "cannot be used together with after or bootstrap");
    if (after && query_true(call, "bootstrap"))
        return err_field("bootstrap", "cannot be used together with after");
    if (p->offset > 0)
        return err_field("offset", "cannot be used together with after or bootstrap");
    p->by_cursor = true;
    p->after = events_boundary(call->agent);
    return after ? events_after(call->agent, "after", after, &p->after) : NULL;
}

void events_list(struct api_call *call)
{
    struct page *p = mem_new(struct page);
    struct err *e;

    *p = (struct page){.agent = call->agent, .req = call->req, .last = events_last(call->agent)};
    e = query_int(call, "limit", 1, 500, 100, &p->limit);
    if (!e)
        e = query_int(call, "offset", 0, INT32_MAX, 0, &p->offset);
    if (!e)
        e = query_choice(call, "sort_by", sort_words, &p->sort);
    if (!e)
        e = query_choice(call, "sort_order", order_words, &p->order);
    if (!e)
        e = query_bool(call, "bootstrap", &p->by_cursor);
    if (!e && (p->by_cursor || http_query(call->req, "after")))
        e = load_cursor(call, p);
    else if (!e)
        e = event_filter_load(call, &p->f);
    if (e) {
        free(p);
        reply_err(call->req, e);
        return;
    }
    lane_submit(call->agent->read_lane, read_page, p, answer_page);
}

/* Reading and deleting one event. */
struct one {
    struct agent *agent;
    struct http_request *req;
    char *id;
    json_t *rows;
    int64_t deleted;
};

static struct err *read_one(void *arg)
{
    struct one *o = arg;

    return store_query(o->agent->reader, STORE_EVENT_GET, json_pack("[s]", o->id), &o->rows);
}

static struct err *delete_one(void *arg)
{
    struct one *o = arg;

    return store_change(o->agent->store, STORE_EVENT_DELETE, json_pack("[s]", o->id), &o->deleted);
}

static void answer_one(void *arg, struct err *e)
{
    struct one *o = arg;

    if (!e && o->deleted == 0 && json_array_size(o->rows) == 0)
        e = err_reason(err_new(ERR_NOT_FOUND, "Event not found"), "RESOURCE_NOT_FOUND");
    if (e)
        reply_err(o->req, e);
    else if (o->rows)
        reply_ok(o->req, 200, "Event retrieved successfully", event_to_json(o->agent, json_array_get(o->rows, 0)));
    else
        reply_ok(o->req, 200, "Event deleted successfully", NULL);
    json_decref(o->rows);
    free(o->id);
    free(o);
}

static struct one *one_new(const struct api_call *call)
{
    struct one *o = mem_new(struct one);

    *o = (struct one){.agent = call->agent, .req = call->req, .id = str_dup(call->params[0])};
    return o;
}

void event_get(struct api_call *call)
{
    lane_submit(call->agent->read_lane, read_one, one_new(call), answer_one);
}

void event_delete(struct api_call *call)
{
    lane_submit(call->agent->store_lane, delete_one, one_new(call), answer_one);
}

/* Where a stream begins: Last-Event-ID of a client that comes again, `after`, the oldest event, or now. */
static struct err *stream_place(const struct api_call *call, int64_t *ret)
{
    const char *last_id = http_header(call->req, "Last-Event-ID"), *after = http_query(call->req, "after");
    bool bootstrap = false;
    struct err *e = query_bool(call, "bootstrap", &bootstrap);

    if (e)
        return e;
    *ret = bootstrap ? events_boundary(call->agent) : events_last(call->agent);
    if (last_id && *last_id)
        return events_after(call->agent, "Last-Event-ID", last_id, ret);
    return after ? events_after(call->agent, "after", after, ret) : NULL;
}

void events_stream(struct api_call *call)
{
    struct event_filter f = {0};
    int64_t after = 0;
    struct err *e = stream_place(call, &after);

    if (!e)
        e = event_filter_load(call, &f);
    if (!e && event_filter_time_given(call)) {
        e = err_field(event_filter_time_given(call), "is not for streams");
        event_filter_clear(&f);
    }
    if (e)
        reply_err(call->req, e);
    else
        event_stream_begin(call->agent->event_streams, call->req, after, &f);
}
