/* SPDX-License-Identifier: Apache-2.0 */
/* The container and snapshot objects of the API. */
#include "agent/api/api.h"
#include "agent/containers/guest.h"
#include "agent/containers/project.h"
#include "agent/containers/ssh_key.h"
#include "agent/network/ipv6.h"
#include "agent/operations/takeover.h"
#include "base/str.h"

json_t *env_sync_to_json(const struct container *c)
{
    const struct container_record *r = &c->record;

    return json_pack("{s:b, s:I, s:I, s:o, s:o, s:s?, s:b}", "pending", guest_is_pending(c, GUEST_ENVIRONMENT),
                     "revision", (json_int_t)r->env_revision, "applied_revision", (json_int_t)r->env_applied_revision,
                     "verified_at", api_time(r->env_verified_at), "attempted_at", api_time(r->env_attempted_at),
                     "last_error", r->env_last_error, "exhausted", guest_is_exhausted(c));
}

/* What holds the container, and how that can be ended. */
static json_t *operation_to_json(const struct container *c)
{
    const struct operation *op = c->op;
    autofree char *hint = op ? operation_hint(op) : NULL;

    if (!op)
        return json_null();
    return json_pack("{s:s, s:s, s:o, s:b, s:s}", "name", operation_command(op), "operation_id", op->id, "since",
                     api_time(op->begun_at), "interruptible", operation_gives_way(c), "hint", hint);
}

static void add_identity(json_t *j, const struct agent *a, const struct container *c)
{
    const struct container_record *r = &c->record;
    const struct project *project = project_find(a, r->project_id);

    json_object_set_new(j, "id", json_string(r->id));
    json_object_set_new(j, "project_id", json_string(r->project_id));
    json_object_set_new(j, "project_alias", project ? json_string(project->alias) : json_null());
    json_object_set_new(j, "server_id", json_string(a->node_id));
    json_object_set_new(j, "server_name", json_string(a->node_name));
    json_object_set_new(j, "server", json_null());
    json_object_set_new(j, "ssh_hostname", json_null());
    json_object_set_new(j, "name", json_string(r->name));
    json_object_set_new(j, "color", json_string(r->color));
    json_object_set_new(j, "container_image", json_string(r->image));
    json_object_set_new(j, "image", json_string(r->image));
    json_object_set_new(j, "status", json_string(container_status_word(c)));
    json_object_set_new(j, "operation", operation_to_json(c));
    json_object_set_new(j, "created_at", api_time(r->created_at));
    json_object_set_new(j, "updated_at", api_time(r->updated_at));
}

static void add_settings(json_t *j, const struct container *c)
{
    const struct container_record *r = &c->record;
    autofree char *fingerprint = ssh_key_fingerprint(r->ssh_public_key);

    json_object_set_new(j, "ai", json_boolean(r->ai));
    json_object_set_new(j, "hoody_kit", json_boolean(r->hoody_kit));
    json_object_set_new(j, "dev_kit", json_boolean(r->dev_kit));
    json_object_set_new(j, "kvm", json_false());
    json_object_set_new(j, "autostart", json_boolean(r->autostart));
    json_object_set_new(j, "ramdisk", json_boolean(r->ramdisk));
    json_object_set_new(j, "ramdisk_scope", json_string(ramdisk_scope_words[r->ramdisk_scope]));
    json_object_set_new(j, "prespawn", json_false());
    json_object_set_new(j, "is_default", json_false());
    json_object_set(j, "environment_vars", r->environment);
    json_object_set_new(j, "env_sync", env_sync_to_json(c));
    json_object_set_new(j, "volumes", json_object());
    json_object_set_new(j, "ssh_public_key", r->ssh_public_key ? json_string(r->ssh_public_key) : json_null());
    json_object_set_new(j, "ssh_key_fingerprint", fingerprint ? json_string(fingerprint) : json_null());
    json_object_set_new(j, "ssh_key_installed_at", api_time(r->ssh_public_key ? r->ssh_installed_at : 0));
    json_object_set_new(j, "comment", r->comment ? json_string(r->comment) : json_null());
    json_object_set(j, "realm_ids", r->realm_ids);
}

json_t *container_to_json(const struct agent *a, const struct container *c)
{
    const struct container_record *r = &c->record;
    json_t *j = json_object();

    add_identity(j, a, c);
    add_settings(j, c);
    json_object_set_new(j, "source_container_id",
                        r->source_container_id ? json_string(r->source_container_id) : json_null());
    json_object_set_new(j, "server_expired", json_false());
    json_object_set_new(j, "server_expired_at", json_null());
    json_object_set_new(j, "server_expired_reason", json_null());
    json_object_set_new(j, "snapshot_count", json_integer((json_int_t)c->snapshot_count));
    json_object_set_new(j, "last_used_snapshot",
                        r->last_used_snapshot ? json_string(r->last_used_snapshot) : json_null());
    json_object_set_new(j, "runtime_info", json_null());
    json_object_set_new(j, "pool_id", json_null());
    json_object_set_new(j, "node",
                        json_pack("{s:I, s:s, s:s, s:s*, s:I, s:s?}", "slot", (json_int_t)r->slot, "interface",
                                  c->net.ifname, "ipv4", c->net.ipv4, "ipv6", ipv6_address(a, c), "init_pid",
                                  (json_int_t)c->init_pid, "source_server_id", r->source_server_id));
    return j;
}

json_t *snapshot_to_json(const struct snapshot *s)
{
    json_t *j = json_pack("{s:s, s:s, s:s?, s:o, s:o, s:o, s:b}", "id", s->name, "name", s->name, "alias", s->alias,
                          "created_at", api_time(s->created_at), "last_used_at", api_time(s->last_used_at),
                          "expires_at", api_time(s->expires_at), "stateful", 0);

    if (s->size >= 0)
        json_object_set_new(j, "size", json_integer(s->size));
    if (s->missing)
        json_object_set_new(j, "missing", json_true());
    return j;
}
