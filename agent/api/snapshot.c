/* SPDX-License-Identifier: Apache-2.0 */
/* Snapshots: list, create, restore, delete (contract, section 2.2). */
#include <time.h>

#include "agent/api/api.h"
#include "agent/containers/snapshots.h"
#include "agent/events/event.h"
#include "agent/storage/space.h"
#include "base/clock.h"
#include "base/str.h"

enum { SNAPSHOTS_MAX = CONTAINER_SNAPSHOTS_MAX, DAY_MS = 86400000 };

#define ALIAS_RULE                                                                                                     \
    .nullable = true, .min = 0, .max = SNAPSHOT_ALIAS_MAX, .valid = snapshot_alias_ok,                                 \
    .rule = "must be at most 100 characters, none of them a control character"

struct snapshot_body {
    char *alias;
    int64_t expiry;
};
static const struct json_field body_fields[] = {
    F_STRING(struct snapshot_body, alias, ALIAS_RULE),
    F_INT(struct snapshot_body, expiry, .nullable = true, .min = 1, .max = 3650),
};
static JSON_TABLE(body_table, NULL, body_fields);

void snapshots_list(struct api_call *call)
{
    const struct container *c = call->container;
    json_t *list = json_array();

    for (size_t i = c->snapshot_count; i > 0; i--)
        json_array_append_new(list, snapshot_to_json(c->snapshots[i - 1]));
    reply_ok(call->req, 200, "Snapshots retrieved successfully",
             json_pack("{s:s, s:s, s:I, s:i, s:o}", "container_id", c->record.id, "project_id", c->record.project_id,
                       "snapshot_count", (json_int_t)c->snapshot_count, "max_snapshots", SNAPSHOTS_MAX, "snapshots",
                       list));
}

/* The alias without what a name may not have; NULL when nothing is left. */
static char *sanitise(const char *alias)
{
    char *name = str_dup(alias ? alias : "");
    size_t n = 0;

    for (const char *p = name; *p; p++) {
        bool word = (*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') || (*p >= '0' && *p <= '9') || *p == '_';

        if (word || (*p == '-' && n > 0))
            name[n++] = *p;
    }
    name[n] = '\0';
    if (n == 0) {
        free(name);
        return NULL;
    }
    return name;
}

static char *name_of_time(const struct container *c)
{
    time_t now = time(NULL);
    char text[32];
    char *name;
    struct tm tm;

    gmtime_r(&now, &tm);
    strftime(text, sizeof(text), "snap-%Y%m%d-%H%M%S", &tm);
    name = str_dup(text);
    for (int i = 2; container_find_snapshot(c, name); i++) {
        free(name);
        name = str_fmt("%s-%d", text, i);
    }
    return name;
}

static void created(struct operation *op, struct err *e)
{
    const struct container *c = op->container;

    if (e) {
        reply_host_err(op->req, e);
        return;
    }
    reply_ok(op->req, 200, "Snapshot created successfully",
             json_pack("{s:s, s:s, s:o}", "container_id", c->record.id, "project_id", c->record.project_id, "snapshot",
                       snapshot_to_json(container_find_snapshot(c, op_arg(op, "name")))));
}

static struct err *check_no_snapshot_operation(const struct container *c)
{
    struct err *e;

    if (!c->op || (c->op->kind != &op_snapshot && c->op->kind != &op_restore && c->op->kind != &op_snapshot_delete))
        return NULL;
    e = err_reason(err_new(ERR_BUSY, "Another snapshot operation is in progress"), "SNAPSHOT_OPERATION_IN_PROGRESS");
    e->retry_after_s = 1;
    return e;
}

static struct err *check_create(const struct container *c, struct snapshot_body *b, char **ret_name)
{
    struct err *e = NULL;

    e = check_no_snapshot_operation(c);
    if (!e)
        e = operation_check_free(c, "snapshot");
    if (e)
        return e;
    if (c->record.status == CONTAINER_FAILED)
        return err_reason(err_new(ERR_WRONG_STATE, "The container has failed: there is nothing to snapshot"),
                          "OPERATION_STATE_CONFLICT");
    if (c->snapshot_count >= SNAPSHOTS_MAX)
        return err_data(
            err_reason(err_new(ERR_LIMIT, "The container has %d snapshots: delete one first", SNAPSHOTS_MAX),
                       "CONTAINER_SNAPSHOT_LIMIT"),
            json_pack("{s:s, s:s, s:I, s:i}", "field", "snapshots", "container_id", c->record.id, "current_count",
                      (json_int_t)c->snapshot_count, "limit", SNAPSHOTS_MAX));
    *ret_name = sanitise(b->alias);
    if (!*ret_name) {
        *ret_name = name_of_time(c);
        return NULL;
    }
    for (size_t i = 0; i < c->snapshot_count; i++)
        if (str_eq(c->snapshots[i]->name, *ret_name))
            return err_reason(err_recode(err_field("alias", "a snapshot named '%s' exists", *ret_name), ERR_CONFLICT),
                              "RESOURCE_IN_USE");
    return NULL;
}

void snapshot_create(struct api_call *call)
{
    struct container *c = call->container;
    struct snapshot_body b = {0};
    autofree char *name = NULL;
    struct operation *op;
    struct err *e = json_table_load(&body_table, call->body, &b, NULL);

    if (!e)
        e = check_create(c, &b, &name);
    if (!e)
        e = space_check(call->agent);
    if (e) {
        json_table_clear(&body_table, &b);
        reply_err(call->req, e);
        return;
    }
    op = operation_new(call->agent, &op_snapshot, c,
                       json_pack("{s:s, s:s?, s:I, s:I}", "name", name, "alias", b.alias, "created_at",
                                 (json_int_t)clock_wall_ms(), "expires_at",
                                 (json_int_t)(b.expiry ? clock_wall_ms() + b.expiry * DAY_MS : 0)),
                       "user");
    op->req = call->req;
    op->done = created;
    json_table_clear(&body_table, &b);
    operation_start(op, NULL);
}

static void restored(struct operation *op, struct err *e)
{
    const struct snapshot *s;

    if (e) {
        reply_host_err(op->req, e);
        return;
    }
    s = container_find_snapshot(op->container, op_arg(op, "name"));
    reply_ok(op->req, 200, "Snapshot restored successfully",
             json_pack("{s:b, s:s, s:o}", "success", 1, "message", "Snapshot restored successfully", "snapshot",
                       s ? snapshot_to_json(s) : json_null()));
}

static void deleted(struct operation *op, struct err *e)
{
    if (e)
        reply_host_err(op->req, e);
    else
        reply_ok(op->req, 200, "Snapshot deleted successfully",
                 json_pack("{s:s, s:s, s:s}", "container_id", op->container->record.id, "project_id",
                           op->container->record.project_id, "snapshot_name", op_arg(op, "name")));
}

static void start_on(struct api_call *call, const struct op_kind *kind, const char *what,
                     void (*done)(struct operation *op, struct err *e))
{
    struct container *c = call->container;
    struct err *e = operation_check_free(c, what);
    struct snapshot *s = NULL;
    struct operation *op;

    if (!e)
        e = container_check_unread(c);
    if (!e)
        e = snapshot_find(c, NULL, call->params[1], &s);
    if (!e && kind == &op_restore)
        e = snapshot_check_present(s);
    if (e) {
        reply_err(call->req, e);
        return;
    }
    op = operation_new(call->agent, kind, c, json_pack("{s:s}", "name", s->name), "user");
    op->req = call->req;
    op->done = done;
    operation_start(op, NULL);
}

void snapshot_restore(struct api_call *call)
{
    start_on(call, &op_restore, "restore", restored);
}

void snapshot_delete(struct api_call *call)
{
    start_on(call, &op_snapshot_delete, "snapshot delete", deleted);
}

/* An alias that is being recorded. */
struct alias_change {
    struct agent *agent;
    struct http_request *req;
    char *container_id, *name, *before, *after;
};

static void on_alias_recorded(void *owner, struct err *e)
{
    struct alias_change *ch = owner;
    struct container *c = agent_find(ch->agent, ch->container_id);
    struct snapshot *s = c ? container_find_snapshot(c, ch->name) : NULL;

    if (e && s && str_eq(s->alias, ch->after))
        str_set(&s->alias, ch->before);
    if (e)
        reply_host_err(ch->req, e);
    else if (!s)
        reply_err(ch->req, err_reason(err_new(ERR_NOT_FOUND, "The snapshot is gone"), "RESOURCE_NOT_FOUND"));
    else
        reply_ok(ch->req, 200, "Snapshot alias updated successfully",
                 json_pack("{s:s, s:s, s:o}", "container_id", c->record.id, "project_id", c->record.project_id,
                           "snapshot", snapshot_to_json(s)));
    free(ch->container_id);
    free(ch->name);
    free(ch->before);
    free(ch->after);
    free(ch);
}

/* Without one the name, which stays as it is, is all there is. */
static void change_alias(struct api_call *call, struct snapshot *s, const char *alias)
{
    struct alias_change *ch = mem_new(struct alias_change);
    struct store_tx *tx = store_tx_new();

    *ch = (struct alias_change){.agent = call->agent, .req = call->req};
    ch->container_id = str_dup(call->container->record.id);
    ch->name = str_dup(s->name);
    ch->before = str_dup(s->alias);
    ch->after = str_dup(alias);
    str_set(&s->alias, alias);
    record_put_snapshot(tx, call->container, s);
    if (!str_eq(ch->before, ch->after))
        event_add(call->agent, tx, "container.snapshot.renamed", call->container,
                  json_pack("{s:s, s:s?, s:s?}", "snapshot_name", s->name, "from", ch->before, "alias", alias));
    agent_commit(call->agent, tx, ch, on_alias_recorded);
}

struct alias_body {
    char *alias;
};
static const struct json_field alias_fields[] = {
    F_STRING(struct alias_body, alias, .required = true, ALIAS_RULE),
};
static JSON_TABLE(alias_table, NULL, alias_fields);

void snapshot_alias(struct api_call *call)
{
    struct alias_body b = {0};
    struct snapshot *s = NULL;
    struct err *e = json_table_load(&alias_table, call->body, &b, NULL);

    if (!e)
        e = snapshot_find(call->container, NULL, call->params[1], &s);
    if (!e)
        e = check_no_snapshot_operation(call->container);
    if (e)
        reply_err(call->req, e);
    else
        change_alias(call, s, str_empty(b.alias) ? NULL : b.alias);
    json_table_clear(&alias_table, &b);
}
