/* SPDX-License-Identifier: Apache-2.0 */
/* Lists of shares, what receivers see, and their own switch (contract, section 2.6). */
#include "agent/api/share.h"
#include "agent/events/event.h"
#include "base/clock.h"
#include "base/id.h"
#include "base/str.h"

static const char *problem_of(const struct share *s, const struct container *receiver)
{
    const char *id;
    json_t *text;

    if (receiver)
        return json_string_value(json_object_get(s->problems, receiver->record.id));
    json_object_foreach(s->problems, id, text) return json_string_value(text);
    return NULL;
}

static json_t *common(const struct share *s, const struct container *receiver)
{
    const char *problem = problem_of(s, receiver), *type = s->target_container_id ? "container" : "project";

    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s?, s:s?, s:s, s:s, s:b, s:s, s:s?, s:o, s:s, s:o, s:o}", "id", s->id,
                     "name", s->source_path, "type", type, "source_container_id", s->source_container_id, "source_path",
                     s->source_path, "target_container_id", s->target_container_id, "target_project_id",
                     s->target_project_id, "target_type", type, "mode", share_mode_words[s->mode], "enabled",
                     s->enabled, "status", problem ? "failed" : "active", "status_message", problem, "expires_at",
                     s->expires_at > 0 ? json_integer(s->expires_at) : json_null(), "created_by", s->created_by,
                     "created_at", api_time(s->created_at), "updated_at", api_time(s->updated_at));
}

json_t *share_to_json(const struct agent *a, const struct share *s)
{
    const struct container *source = agent_find(a, s->source_container_id);
    json_t *j = common(s, NULL);

    if (s->alias || s->label)
        json_object_set_new(j, "name", json_string(s->alias ? s->alias : s->label));
    json_object_update_new(j, json_pack("{s:s?, s:s?, s:s?, s:b, s:O?}", "alias", s->alias, "label", s->label,
                                        "description", s->description, "expiry_notified", s->expiry_notified,
                                        "realm_ids", source ? source->record.realm_ids : NULL));
    return j;
}

json_t *share_to_incoming_json(const struct agent *a, const struct share *s, const struct container *receiver)
{
    json_t *j = common(s, receiver);
    autofree char *path = share_mount_path(s);

    (void)a;
    json_object_set_new(j, "mount_path", json_string(path));
    if (receiver)
        json_object_set_new(j, "mount", json_boolean(share_is_wanted_by(s, receiver)));
    return j;
}

struct filter {
    const char *source_id, *label, *realm_id;
    int target, status, enabled; /* index into words, 0: any */
    bool expired;
};

static bool has_realm(const struct agent *a, const struct share *s, const char *realm_id)
{
    const struct container *source = agent_find(a, s->source_container_id);
    json_t *v;
    size_t i;

    json_array_foreach(source ? source->record.realm_ids : NULL, i,
                       v) if (str_eq(json_string_value(v), realm_id)) return true;
    return false;
}

static bool matches(const struct agent *a, const struct filter *f, const struct share *s)
{
    bool failed = problem_of(s, NULL) != NULL;

    return (!f->source_id || str_eq(f->source_id, s->source_container_id)) &&
           (f->target == 0 || (f->target == 1) == (s->target_container_id != NULL)) &&
           (f->status == 0 || (f->status == 2) == failed) && (f->enabled == 0 || (f->enabled == 1) == s->enabled) &&
           (!f->label || str_eq(f->label, s->label)) && (f->expired || !share_is_expired(s)) &&
           (!f->realm_id || has_realm(a, s, f->realm_id));
}

static struct err *query_realm(const struct api_call *call, const char **ret)
{
    *ret = http_query(call->req, "realm_id");
    return *ret && !str_is_object_id(*ret) ? err_field("realm_id", "must be 24 lower case hex digits") : NULL;
}

static struct err *load_filter(const struct api_call *call, struct filter *f)
{
    static const char *const targets[] = {"", "container", "project", NULL}, *const states[] = {"", "active", "failed",
                                                                                                NULL};
    static const char *const bools[] = {"", "true", "false", NULL};
    struct err *e = query_choice(call, "target_type", targets, &f->target);

    if (!e)
        e = query_choice(call, "status", states, &f->status);
    if (!e)
        e = query_choice(call, "enabled", bools, &f->enabled);
    if (!e)
        e = query_bool(call, "include_expired", &f->expired);
    f->label = http_query(call->req, "label");
    return e ? e : query_realm(call, &f->realm_id);
}

static void list(struct api_call *call, const char *source_id)
{
    struct filter f = {.source_id = source_id};
    struct err *e = load_filter(call, &f);
    json_t *array;

    if (e) {
        reply_err(call->req, e);
        return;
    }
    array = json_array();
    for (size_t i = 0; i < call->agent->share_count; i++)
        if (matches(call->agent, &f, call->agent->shares[i]))
            json_array_append_new(array, share_to_json(call->agent, call->agent->shares[i]));
    reply_ok(call->req, 200, "Shares retrieved successfully", array);
}

void shares_list(struct api_call *call)
{
    list(call, call->container->record.id);
}

void shares_list_all(struct api_call *call)
{
    list(call, NULL);
}

void incoming_list(struct api_call *call)
{
    json_t *array = json_array();

    for (size_t i = 0; i < call->agent->share_count; i++)
        if (share_is_incoming(call->agent, call->agent->shares[i], call->container))
            json_array_append_new(array, share_to_incoming_json(call->agent, call->agent->shares[i], call->container));
    reply_ok(call->req, 200, "Incoming shares retrieved successfully", array);
}

static bool is_received(const struct agent *a, const struct share *s)
{
    for (size_t i = 0; i < a->container_count; i++)
        if (share_is_incoming(a, s, a->containers[i]))
            return true;
    return false;
}

void incoming_list_all(struct api_call *call)
{
    const char *realm_id = NULL;
    struct err *e = query_realm(call, &realm_id);
    json_t *array;

    if (e) {
        reply_err(call->req, e);
        return;
    }
    array = json_array();
    for (size_t i = 0; i < call->agent->share_count; i++) {
        const struct share *s = call->agent->shares[i];

        if (is_received(call->agent, s) && (!realm_id || has_realm(call->agent, s, realm_id)))
            json_array_append_new(array, share_to_incoming_json(call->agent, s, NULL));
    }
    reply_ok(call->req, 200, "Incoming shares retrieved successfully", array);
}

struct mount_body {
    bool mount;
};
static const struct json_field mount_fields[] = {F_BOOL(struct mount_body, mount, .required = true)};
static JSON_TABLE(mount_table, NULL, mount_fields);

struct switching {
    struct agent *agent;
    struct http_request *req;
    char *share_id, *container_id;
    json_t *before; /* the switch as it was; NULL: none */
};

static json_t *switch_to_json(const struct switching *sw, const json_t *own)
{
    return json_pack("{s:O, s:s, s:s, s:O, s:o, s:o}", "id", json_object_get(own, "id"), "share_id", sw->share_id,
                     "container_id", sw->container_id, "mount", json_object_get(own, "mount"), "created_at",
                     api_time(json_integer_value(json_object_get(own, "created_at"))), "updated_at",
                     api_time(json_integer_value(json_object_get(own, "updated_at"))));
}

static void end(struct switching *sw)
{
    json_decref(sw->before);
    free(sw->share_id);
    free(sw->container_id);
    free(sw);
}

static void on_settled(void *owner, struct err *e)
{
    struct switching *sw = owner;
    const struct share *s = share_find(sw->agent, sw->share_id);
    const struct container *c = agent_find(sw->agent, sw->container_id);

    if (e)
        reply_host_err(sw->req, err_wrap(e, "recorded, but not in effect yet"));
    else if (!s || !c)
        reply_err(sw->req, err_reason(err_new(ERR_NOT_FOUND, "Share not found"), "RESOURCE_NOT_FOUND"));
    else
        reply_ok(sw->req, 200, "Mount updated successfully",
                 json_pack("{s:o, s:o}", "share", share_to_incoming_json(sw->agent, s, c), "override",
                           switch_to_json(sw, json_object_get(s->switches, sw->container_id))));
    end(sw);
}

static void on_switched(void *owner, struct err *e)
{
    struct switching *sw = owner;
    struct share *s = share_find(sw->agent, sw->share_id);
    struct container *c = agent_find(sw->agent, sw->container_id);

    if (!e) {
        if (s && c)
            share_mounts_settle(sw->agent, s, c, sw, on_settled);
        else
            on_settled(sw, NULL); /* one of them is deleted */
        return;
    }
    if (s && sw->before)
        json_object_set(s->switches, sw->container_id, sw->before);
    else if (s)
        json_object_del(s->switches, sw->container_id);
    if (s)
        share_mounts_mark(sw->agent, s); /* somebody else's refresh may have seen it */
    share_mounts_refresh(sw->agent);
    reply_err(sw->req, e);
    end(sw);
}

static void turn(struct api_call *call, struct share *s, bool on)
{
    const char *container_id = call->container->record.id;
    const json_t *before = json_object_get(s->switches, container_id);
    struct switching *sw = mem_new(struct switching);
    struct store_tx *tx = store_tx_new();
    json_int_t now = clock_wall_ms();
    char id[25];

    id_object(id);
    *sw = (struct switching){.agent = call->agent,
                             .req = call->req,
                             .share_id = str_dup(s->id),
                             .container_id = str_dup(container_id),
                             .before = before ? json_deep_copy(before) : NULL};
    json_object_set_new(
        s->switches, container_id,
        json_pack("{s:s, s:b, s:I, s:I}", "id", before ? json_string_value(json_object_get(sw->before, "id")) : id,
                  "mount", on, "created_at",
                  before ? json_integer_value(json_object_get(sw->before, "created_at")) : now, "updated_at", now));
    record_put_share(tx, s);
    event_add_for(call->agent, tx, "storage.share.mount_changed", "storage_share", s->id,
                  call->container->record.project_id, container_id,
                  json_pack("{s:s, s:b}", "container_id", container_id, "mount", on));
    agent_commit(call->agent, tx, sw, on_switched);
}

void incoming_mount(struct api_call *call)
{
    struct mount_body b = {0};
    struct share *s = NULL;
    struct err *e = json_table_load(&mount_table, call->body, &b, NULL);

    if (!e)
        e = api_find_share(call, call->params[1], &s);
    if (!e && !share_is_for(s, call->container)) {
        e = err_reason(err_new(ERR_INVALID, "This share does not target the specified container"), "VALIDATION_ERROR");
        str_set(&e->field, "share_id");
        e = err_data(e, json_pack("{s:s, s:s, s:s?, s:s?}", "share_id", s->id, "container_id",
                                  call->container->record.id, "target_container_id", s->target_container_id,
                                  "target_project_id", s->target_project_id));
    }
    if (e)
        reply_err(call->req, e);
    else
        turn(call, s, b.mount);
}
