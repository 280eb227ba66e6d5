/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/containers/container.h"

#include <assert.h>

#include "agent/config.h"
#include "agent/containers/texts.h"
#include "agent/kits/watch.h"
#include "agent/network/egress.h"
#include "base/str.h"

#define ID_COUNT 65536 /* of each container */

const char *const container_status_words[] = {
#define X(name, word) [name] = (word),
    CONTAINER_STATUS_MAP(X)
#undef X
        [CONTAINER_STATUS_MAX] = NULL,
};

const char *const ramdisk_scope_words[] = {[RAMDISK_CONTAINER] = "container", [RAMDISK_PROJECT] = "project", NULL};

#define R(kind, member, ...) F_##kind(struct container_record, member, __VA_ARGS__)
static const struct json_field record_fields[] = {
    R(STRING, id, .required = true),
    R(STRING, project_id, .required = true),
    R(STRING, name, .required = true),
    R(STRING, color, .nullable = true),
    R(STRING, image, .nullable = true),
    R(STRING, image_fingerprint, .nullable = true),
    R(STRING, spare, .nullable = true),
    R(INT, base),
    R(STRING, comment, .nullable = true),
    R(STRING, ssh_public_key, .nullable = true),
    R(STRING, hostname, .required = true),
    R(STRING, machine_id, .required = true),
    R(STRING, source_container_id, .nullable = true),
    R(STRING, source_server_id, .nullable = true),
    R(STRING, last_used_snapshot, .nullable = true),
    R(INT, slot, .required = true),
    R(INT, created_at),
    R(INT, updated_at),
    R(INT, started_at),
    F_ENUM(struct container_record, status, container_status_words, .required = true),
    R(BOOL, wanted_running),
    R(BOOL, ai),
    R(BOOL, hoody_kit),
    R(BOOL, dev_kit),
    R(BOOL, disk_lost),
    R(BOOL, kits_linked),
    R(BOOL, autostart),
    R(BOOL, ramdisk),
    R(JSON, environment, .required = true, .has_type = true, .type = JSON_OBJECT, .unhashed = true), /* env_revision */
    R(JSON, realm_ids, .required = true, .has_type = true, .type = JSON_ARRAY),
    R(JSON, kits_before, .nullable = true, .has_type = true, .type = JSON_ARRAY),
    R(JSON, kits, .required = true, .has_type = true, .type = JSON_ARRAY),
    R(JSON, request, .nullable = true, .unhashed = true), /* does not change */
    R(INT, env_revision),
    R(INT, env_applied_revision),
    R(INT, env_verified_at),
    R(INT, env_attempted_at),
    R(INT, env_attempts),
    R(STRING, env_last_error, .nullable = true),
    R(INT, ssh_revision),
    R(INT, ssh_applied_revision),
    R(INT, ssh_installed_at),
    R(JSON, ssh_removed, .nullable = true, .has_type = true, .type = JSON_ARRAY),
    R(INT, ramdisk_revision),
    R(INT, ramdisk_applied_revision),
    F_ENUM(struct container_record, ramdisk_scope, ramdisk_scope_words),
    R(JSON, host, .nullable = true, .has_type = true, .type = JSON_OBJECT, .unhashed = true),        /* not shown */
    R(JSON, sent_copies, .nullable = true, .has_type = true, .type = JSON_OBJECT, .unhashed = true), /* not shown */
};
JSON_TABLE(container_record_table, "container", record_fields);

static const struct json_field snapshot_fields[] = {
    F_STRING(struct snapshot, name, .required = true),
    F_STRING(struct snapshot, alias, .nullable = true),
    F_INT(struct snapshot, created_at),
    F_INT(struct snapshot, last_used_at),
    F_INT(struct snapshot, expires_at),
    F_INT(struct snapshot, size),
};
JSON_TABLE(snapshot_table, "snapshot", snapshot_fields);

int64_t container_id_base(const struct config *config, const struct container *c)
{
    return config->id_base + (c->record.slot - 1) * ID_COUNT;
}

struct container *container_new(void)
{
    struct container *c = mem_new(struct container);

    c->rules = ruleset_new();
    c->record.ssh_removed = json_array();
    return c;
}

void snapshot_free(struct snapshot *s)
{
    if (!s)
        return;
    json_table_clear(&snapshot_table, s);
    free(s);
}

void container_free(struct container *c)
{
    if (!c)
        return;
    assert(!c->op && !c->watch && !c->egress_before && !c->relay);
    for (size_t i = 0; i < c->snapshot_count; i++)
        snapshot_free(c->snapshots[i]);
    free(c->snapshots);
    texts_free(c->texts);
    json_decref(c->kits_next);
    kit_watch_forget(c);
    ruleset_unref(c->rules);
    egress_free(c->egress);
    json_table_clear(&container_record_table, &c->record);
    free(c);
}

const char *container_status_word(const struct container *c)
{
    return container_status_words[c->committing ? c->status_before : c->record.status];
}

bool container_is_up(const struct container *c)
{
    return c->record.status == CONTAINER_RUNNING || c->record.status == CONTAINER_PAUSED;
}

struct snapshot *container_find_snapshot(const struct container *c, const char *name)
{
    for (size_t i = 0; i < c->snapshot_count; i++)
        if (str_eq(c->snapshots[i]->name, name))
            return c->snapshots[i];
    return NULL;
}

void container_add_snapshot(struct container *c, struct snapshot *s)
{
    size_t at = c->snapshot_count;

    c->snapshots = mem_grow(c->snapshots, c->snapshot_count + 1, sizeof(struct snapshot *));
    for (; at > 0 && c->snapshots[at - 1]->created_at > s->created_at; at--)
        c->snapshots[at] = c->snapshots[at - 1];
    c->snapshots[at] = s;
    c->snapshot_count++;
}

void container_drop_snapshot(struct container *c, struct snapshot *s)
{
    size_t i = 0;

    while (i < c->snapshot_count && c->snapshots[i] != s)
        i++;
    assert(i < c->snapshot_count);
    for (c->snapshot_count--; i < c->snapshot_count; i++)
        c->snapshots[i] = c->snapshots[i + 1];
    snapshot_free(s);
}
