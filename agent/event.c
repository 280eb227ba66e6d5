/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/event.h"

#include "base/clock.h"
#include "base/id.h"
#include "base/str.h"

struct events {
    int64_t seq;     /* of the last event that was numbered */
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

struct err *events_load(struct agent *a)
{
    autojson last = NULL;
    const json_t *row;
    struct err *e = store_query(a->store, STORE_EVENT_LAST, NULL, &last);

    if (e)
        return e;
    row = json_array_get(last, 0);
    a->events = mem_new(struct events);
    a->events->seq = json_integer_value(json_object_get(row, "seq"));
    a->events->time_ms = json_integer_value(json_object_get(row, "created_at"));
    return NULL;
}

void events_free(struct events *ev)
{
    free(ev);
}
