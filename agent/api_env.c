/* SPDX-License-Identifier: Apache-2.0 */
/* Environment variables (contract, section 2.3): recorded first, then written into the container's root by a worker. */
#include "agent/api.h"
#include "agent/environment.h"
#include "base/clock.h"
#include "base/str.h"

struct env_change {
    struct agent *agent;
    char *container_id;
    struct http_request *req;
    int64_t revision;
};

static json_t *env_report(const struct agent *a, const struct container *c, bool synced)
{
    autojson whole = container_to_json(a, c);

    return json_pack("{s:O, s:b, s:O}", "environment_vars", c->record.environment, "synced", synced, "env_sync",
                     json_object_get(whole, "env_sync"));
}

static void finish(struct env_change *ch, struct err *e)
{
    struct container *c = agent_find(ch->agent, ch->container_id);

    if (!e && !c)
        e = err_reason(err_new(ERR_NOT_FOUND, "Container not found"), "CONTAINER_NOT_FOUND");
    if (e)
        reply_err(ch->req, e);
    else
        reply_ok(ch->req, 200, "Environment variables updated",
                 env_report(ch->agent, c, c->record.env_applied_revision >= ch->revision));
    free(ch->container_id);
    free(ch);
}

static void on_applied(void *owner, struct err *e)
{
    finish(owner, e);
}

static void on_recorded(void *owner, struct err *e)
{
    struct env_change *ch = owner;
    struct container *c = agent_find(ch->agent, ch->container_id);

    if (e || !c)
        finish(ch, e);
    else
        environment_apply(ch->agent, c, ch, on_applied);
}

/* Takes over the new set; answers at once when nothing changes. */
static void change_environment(struct api_call *call, json_t *environment)
{
    struct container *c = call->container;
    struct env_change *ch;
    struct store_tx *tx;
    struct err *e = api_check_environment("environment_vars", environment);

    if (!e && (c->record.status == CONTAINER_CREATING || c->record.status == CONTAINER_COPYING ||
               c->record.status == CONTAINER_DELETING))
        e = operation_check_free(c, "environment");
    if (e || json_equal(environment, c->record.environment)) {
        json_decref(environment);
        if (e)
            reply_err(call->req, e);
        else
            reply_ok(call->req, 200, "Environment variables unchanged", env_report(call->agent, c, false));
        return;
    }
    json_decref(c->record.environment);
    c->record.environment = environment;
    c->record.env_revision++;
    c->record.updated_at = clock_wall_ms();
    ch = mem_new(struct env_change);
    *ch = (struct env_change){.agent = call->agent,
                              .container_id = str_dup(c->record.id),
                              .req = call->req,
                              .revision = c->record.env_revision};
    tx = store_tx_new();
    record_put(tx, c);
    agent_commit(call->agent, tx, ch, on_recorded);
}

void env_list(struct api_call *call)
{
    reply_ok(call->req, 200, "Environment variables retrieved",
             json_pack("{s:O}", "environment_vars", call->container->record.environment));
}

void env_bulk(struct api_call *call)
{
    json_t *merged;
    struct err *e = api_check_environment("environment_vars", call->body);

    if (!e && (json_object_size(call->body) < 1))
        e = err_field("body", "must be an object of 1..256 variables");
    if (e) {
        reply_err(call->req, e);
        return;
    }
    merged = json_copy(call->container->record.environment);
    json_object_update(merged, call->body);
    change_environment(call, merged);
}

struct value_body {
    char *value;
};
static const struct json_field value_fields[] = {
    F_STRING(struct value_body, value, .required = true, .min = 1, .max = 4096),
};
static JSON_TABLE(value_table, NULL, value_fields);

void env_set(struct api_call *call)
{
    struct value_body b = {0};
    json_t *merged;
    struct err *e = api_check_env_key(call->params[1]);

    if (!e)
        e = json_table_load(&value_table, call->body, &b, NULL);
    if (e) {
        reply_err(call->req, e);
        return;
    }
    merged = json_copy(call->container->record.environment);
    json_object_set_new(merged, call->params[1], json_string(b.value));
    json_table_clear(&value_table, &b);
    change_environment(call, merged);
}

void env_delete(struct api_call *call)
{
    json_t *rest;
    struct err *e = api_check_env_key(call->params[1]);

    if (e) {
        reply_err(call->req, e);
        return;
    }
    rest = json_copy(call->container->record.environment);
    json_object_del(rest, call->params[1]);
    change_environment(call, rest);
}
