/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/events/event.h"

#include <stdio.h>

#include "base/clock.h"
#include "base/id.h"
#include "base/str.h"

struct events {
    char history[ID_OPERATION_LEN + 1];
    int64_t last;     /* of the last event on disk */
    int64_t boundary; /* of the last one that retention removed */
    int64_t seq;      /* of the last event that was numbered */
    void (*listener)(struct agent *a, const json_t *row);
    int64_t time_ms; /* its created_at; never falls, so that the order of times is the order of numbers */
};

/* Parameters of STORE_EVENT_ADD that are filled in late. */
enum { AT_SEQ = 0, AT_TIME = 9 };

static void add(struct store_tx *tx, const char *type, const char *resource_type, const char *resource_id,
                const char *project_id, const char *container_id, json_t *realm_ids, json_t *payload)
{
    char id[ID_OBJECT_LEN + 1];

    id_object(id);
    store_tx_add(tx, STORE_EVENT_ADD,
                 json_pack("[i, s, s, s, s, s?, s?, o, o, i]", 0, id, type, resource_type, resource_id, project_id,
                           container_id, store_text(payload ? payload : json_object()), store_text(realm_ids), 0));
}

void event_add(struct agent *a, struct store_tx *tx, const char *type, const struct container *c, json_t *payload)
{
    const struct container_record *r = &c->record;

    (void)a;
    if (r->spare) { /* nobody knows of it */
        json_decref(payload);
        return;
    }
    add(tx, type, "container", r->id, r->project_id, r->id, json_incref(r->realm_ids), payload);
}

void event_add_for(struct agent *a, struct store_tx *tx, const char *type, const char *resource_type,
                   const char *resource_id, const char *project_id, const char *container_id, json_t *payload)
{
    const struct container *c = container_id ? agent_find(a, container_id) : NULL;

    add(tx, type, resource_type, resource_id, project_id, container_id,
        c ? json_incref(c->record.realm_ids) : json_array(), payload);
}

static void number_one(void *owner, json_t *params)
{
    struct events *ev = owner;

    ev->time_ms = MAX(ev->time_ms, clock_wall_ms());
    json_array_set_new(params, AT_SEQ, json_integer(++ev->seq));
    json_array_set_new(params, AT_TIME, json_integer(ev->time_ms));
}

void events_number(struct agent *a, const struct store_tx *tx)
{
    store_tx_each(tx, STORE_EVENT_ADD, a->events, number_one);
}

static void show_one(void *owner, json_t *params)
{
    struct agent *a = owner;

    static const char *const columns[] = {"seq",        "id",           "event_type", "resource_type", "resource_id",
                                          "project_id", "container_id", "payload",    "realm_ids",     "created_at"};
    struct events *ev = a->events;
    autojson row = NULL;

    ev->last = json_integer_value(json_array_get(params, AT_SEQ));
    if (!ev->listener)
        return;
    row = json_object();
    for (size_t i = 0; i < ARRAY_LEN(columns); i++)
        json_object_set(row, columns[i], json_array_get(params, i));
    ev->listener(a, row);
}

void events_show(struct agent *a, const struct store_tx *tx)
{
    store_tx_each(tx, STORE_EVENT_ADD, a, show_one);
}

struct err *events_load(struct agent *a, const char *history, const char *boundary)
{
    auto_(store_tx_free) struct store_tx *tx = store_tx_new();
    struct events *ev = a->events = mem_new(struct events);
    autojson last = NULL;
    const json_t *row;
    struct err *e = store_query(a->store, STORE_EVENT_LAST, NULL, &last);

    if (e)
        return e;
    row = json_array_get(last, 0);
    ev->seq = ev->last = json_integer_value(json_object_get(row, "seq"));
    ev->time_ms = json_integer_value(json_object_get(row, "created_at"));
    if (boundary && !str_to_i64(boundary, &ev->boundary))
        return err_new(ERR_INTERNAL, "the database has a damaged row");
    if (history) {
        snprintf(ev->history, sizeof(ev->history), "%s", history);
        return NULL;
    }
    id_operation(ev->history);
    store_tx_add(tx, STORE_META_PUT, json_pack("[s, s]", "events_history", ev->history));
    return store_commit(a->store, tx);
}

void events_listen(struct agent *a, void (*listener)(struct agent *a, const json_t *row))
{
    a->events->listener = listener;
}

void events_free(struct events *ev)
{
    free(ev);
}

int64_t events_last(const struct agent *a)
{
    return a->events->last;
}

int64_t events_boundary(const struct agent *a)
{
    return a->events->boundary;
}

void events_move_boundary(struct agent *a, int64_t seq)
{
    a->events->boundary = MAX(a->events->boundary, seq);
}

void events_cursor(const struct agent *a, int64_t seq, char ret[CURSOR_SIZE])
{
    struct cursor c = {.seq = seq};

    memcpy(c.history, a->events->history, sizeof(c.history));
    cursor_encode(&c, ret);
}

static struct err *gone(const struct agent *a, const char *reason, const char *message)
{
    char boundary[CURSOR_SIZE], latest[CURSOR_SIZE];

    events_cursor(a, a->events->boundary, boundary);
    events_cursor(a, a->events->last, latest);
    return err_data(err_reason(err_new(ERR_GONE, "%s", message), reason),
                    json_pack("{s:s, s:s, s:I}", "boundary_cursor", boundary, "latest_cursor", latest, "retention_days",
                              (json_int_t)a->config->events_days));
}

struct err *events_after(const struct agent *a, const char *field, const char *text, int64_t *ret_seq)
{
    const struct events *ev = a->events;
    struct cursor c;

    if (!cursor_decode(text, &c))
        return err_field(field, "must be a cursor that this node has given out");
    if (!str_eq(c.history, ev->history) || c.seq > ev->last)
        return gone(a, "EVENTS_HISTORY_RESET", "The cursor is of another history of events than this one");
    if (c.seq < ev->boundary)
        return gone(a, "EVENTS_CURSOR_EXPIRED", "Events behind the cursor are not kept any more");
    *ret_seq = c.seq;
    return NULL;
}
