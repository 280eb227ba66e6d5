/* SPDX-License-Identifier: Apache-2.0 */
/* Environment variables (contract, section 2.3): recorded first, then written into the container's root by a worker. */
#include "agent/api/api.h"
#include "agent/containers/update.h"
#include "base/str.h"

static json_t *report(const struct container *c, bool synced)
{
    return json_pack("{s:O, s:b, s:o}", "environment_vars", c->record.environment, "synced", synced, "env_sync",
                     env_sync_to_json(c));
}

static void reply(const struct update *u, const struct container *c)
{
    reply_ok(u->req, 200, "Environment variables updated",
             report(c, c->record.env_applied_revision >= u->env_revision));
}

/* Takes over the new set; answers at once when nothing changes. */
static void change_environment(struct api_call *call, json_t *environment)
{
    struct container *c = call->container;
    struct store_tx *tx;
    struct update *u;
    struct err *e = api_check_environment("environment_vars", environment);

    if (!e)
        e = update_check_state(c);
    if (e || json_equal(environment, c->record.environment)) {
        json_decref(environment);
        if (e)
            reply_err(call->req, e);
        else
            reply_ok(call->req, 200, "Environment variables unchanged", report(c, false));
        return;
    }
    u = update_new(call, reply);
    json_decref(c->record.environment);
    c->record.environment = environment;
    update_part(u, c, GUEST_ENVIRONMENT);
    tx = store_tx_new();
    update_tell_environment(call->agent, tx, c);
    update_commit(u, c, tx);
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
