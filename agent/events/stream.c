/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/events/stream.h"

#include "agent/events/event.h"
#include "agent/events/json.h"
#include "agent/http/sse.h"
#include "base/log.h"

enum { PAGE = 100 };

struct event_streams {
    struct agent *agent;
    struct reader *first;
};

struct reader {
    struct event_streams *set;
    struct reader *prev, *next;
    struct sse *sse; /* NULL once the client has left */
    struct event_filter f;
    int64_t seq; /* all up to here are sent, or not asked for */
    bool live, reading;
    /* A page that is being read. */
    int64_t last; /* the newest event when it was asked for */
    json_t *rows;
};

static void reader_free(struct reader *r)
{
    if (r->prev)
        r->prev->next = r->next;
    else
        r->set->first = r->next;
    if (r->next)
        r->next->prev = r->prev;
    event_filter_clear(&r->f);
    free(r);
}

static void on_gone(void *owner)
{
    struct reader *r = owner;

    r->sse = NULL;
    if (!r->reading)
        reader_free(r);
}

static void send_row(struct reader *r, const json_t *row)
{
    autojson event = event_to_json(r->set->agent, row);
    autofree char *data = json_dumps(event, JSON_COMPACT);
    char cursor[CURSOR_SIZE];

    events_cursor(r->set->agent, r->seq, cursor);
    sse_send(r->sse, cursor, json_string_value(json_object_get(row, "event_type")), data ? data : "{}");
}

/* Sends the row if it is asked for. */
static void pass(struct reader *r, const json_t *row)
{
    r->seq = json_integer_value(json_object_get(row, "seq"));
    if (event_filter_matches(&r->f, row))
        send_row(r, row);
}

/* Something about the stream itself, and where it stands. */
static void tell(struct reader *r, const char *event, int64_t seq)
{
    char cursor[CURSOR_SIZE];
    autojson j = NULL;
    autofree char *data = NULL;

    events_cursor(r->set->agent, seq, cursor);
    j = json_pack("{s:s}", "cursor", cursor);
    data = json_dumps(j, JSON_COMPACT);
    sse_send(r->sse, cursor, event, data ? data : "{}");
}

static void catch_up(struct reader *r);

static struct err *read_page(void *arg)
{
    struct reader *r = arg;

    return store_query(r->set->agent->reader, STORE_EVENT_AFTER, json_pack("[I, i]", (json_int_t)r->seq, PAGE),
                       &r->rows);
}

static void on_page(void *arg, struct err *e)
{
    struct reader *r = arg;
    autojson rows = steal(&r->rows);
    json_t *row;
    size_t i;

    r->reading = false;
    if (e)
        log_err(NULL, LOG_LEVEL_WARNING, e, "a stream of events ends: the store cannot be read");
    if (!r->sse || !rows) {
        if (r->sse)
            sse_end(r->sse);
        reader_free(r);
        return;
    }
    json_array_foreach(rows, i, row) pass(r, row);
    if (json_array_size(rows) < PAGE)
        r->seq = MAX(r->seq, r->last);
    if (sse_waiting(r->sse) == 0)
        catch_up(r);
}

static void catch_up(struct reader *r)
{
    struct agent *a = r->set->agent;

    if (r->live || r->reading)
        return;
    r->last = events_last(a);
    if (r->seq >= r->last) {
        r->live = true;
    } else if (r->seq < events_boundary(a)) {
        tell(r, "expired", events_boundary(a));
        sse_end(r->sse);
        reader_free(r);
    } else {
        r->reading = true;
        lane_submit(a->read_lane, read_page, r, on_page);
    }
}

static void on_drained(void *owner)
{
    catch_up(owner);
}

static void on_event(struct agent *a, const json_t *row)
{
    for (struct reader *r = a->event_streams->first; r; r = r->next) {
        if (!r->live)
            continue;
        if ((int64_t)sse_waiting(r->sse) < a->config->stream_buffer) {
            pass(r, row);
        } else {
            r->live = false;
            tell(r, "lagged", r->seq);
        }
    }
}

struct event_streams *event_streams_start(struct agent *a)
{
    struct event_streams *set = mem_new(struct event_streams);

    set->agent = a;
    events_listen(a, on_event);
    return set;
}

void event_streams_free(struct event_streams *set)
{
    free(set);
}

void event_stream_begin(struct event_streams *set, struct http_request *req, int64_t after, struct event_filter *f)
{
    struct reader *r = mem_new(struct reader);

    *r = (struct reader){.set = set, .seq = after, .f = *f, .next = set->first};
    r->sse = sse_begin(set->agent->sse, req,
                       &(struct sse_config){.kind = SSE_EVENTS, .owner = r, .drained = on_drained, .gone = on_gone});
    if (!r->sse) {
        event_filter_clear(&r->f);
        free(r);
        return;
    }
    if (r->next)
        r->next->prev = r;
    set->first = r;
    catch_up(r);
}
