/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/containers/snapshots.h"

#include "base/str.h"

#define TIME_MAX INT64_C(253402300799999) /* the last ms of the year 9999: what a date is written for */

bool snapshot_alias_ok(const char *alias)
{
    return !str_has_control(alias);
}

static struct err *not_one(bool many, const char *field, const char *text)
{
    struct err *e = many ? err_new(ERR_CONFLICT, "Several snapshots have the alias '%.100s': use the name", text)
                         : err_new(ERR_NOT_FOUND, "The container has no snapshot '%.100s'", text);

    e = err_reason(e, many ? "DUPLICATE_ALIAS" : "RESOURCE_NOT_FOUND");
    return field ? err_at(err_wrap(e, "%s", field), field) : e;
}

struct err *snapshot_find(const struct container *c, const char *field, const char *text, struct snapshot **ret)
{
    struct snapshot *found = container_find_snapshot(c, text);
    bool named = found != NULL;

    for (size_t i = 0; !named && i < c->snapshot_count; i++) {
        if (!str_eq(c->snapshots[i]->alias, text))
            continue;
        if (found)
            return not_one(true, field, text);
        found = c->snapshots[i];
    }
    if (!found)
        return not_one(false, field, text);
    *ret = found;
    return NULL;
}

struct err *snapshot_check_present(const struct snapshot *s)
{
    if (!s || !s->missing)
        return NULL;
    return err_reason(
        err_new(ERR_CONFLICT,
                "The snapshot '%s' is not in the storage pool: bring the pool back that had it, or delete the "
                "snapshot",
                s->name),
        "SNAPSHOT_MISSING");
}

json_t *snapshots_save(const struct container *c)
{
    json_t *list = json_array();

    for (size_t i = 0; i < c->snapshot_count; i++)
        if (!c->snapshots[i]->missing)
            json_array_append_new(list, json_table_save(&snapshot_table, c->snapshots[i]));
    return list;
}

json_t *snapshots_names(const json_t *list)
{
    json_t *names = json_array(), *s;
    size_t i;

    json_array_foreach((json_t *)(uintptr_t)list, i, s) json_array_append(names, json_object_get(s, "name"));
    return names;
}

static bool is_time(int64_t ms)
{
    return ms >= 0 && ms <= TIME_MAX;
}

static struct err *check_one(const json_t *j)
{
    struct snapshot s = {0};
    struct err *e = json_table_load(&snapshot_table, j, &s, NULL);

    if (!e && s.alias && (str_chars(s.alias) > SNAPSHOT_ALIAS_MAX || !snapshot_alias_ok(s.alias)))
        e = err_field("alias", "must be at most %d characters, none of them a control character", SNAPSHOT_ALIAS_MAX);
    if (!e && (!is_time(s.created_at) || !is_time(s.last_used_at) || !is_time(s.expires_at)))
        e = err_field("created_at", "and the other times must be milliseconds since 1970");
    json_table_clear(&snapshot_table, &s);
    return e;
}

struct err *snapshots_check(const char *field, const json_t *list)
{
    autojson seen = json_object();
    json_t *j;
    size_t i;

    if (json_array_size(list) > CONTAINER_SNAPSHOTS_MAX)
        return err_field(field, "must be at most %d", CONTAINER_SNAPSHOTS_MAX);
    json_array_foreach((json_t *)(uintptr_t)list, i, j)
    {
        const char *name = json_string_value(json_object_get(j, "name"));
        struct err *e = check_one(j);

        if (!e && json_object_get(seen, name))
            e = err_field("name", "is there twice");
        if (e)
            return err_at(err_wrap(e, "%s[%zu]", field, i), field);
        json_object_set_new(seen, name, json_true());
    }
    return NULL;
}

void snapshots_adopt(struct container *c, struct store_tx *tx, const json_t *list, const json_t *came)
{
    json_t *j;
    size_t i;

    json_array_foreach((json_t *)(uintptr_t)list, i, j)
    {
        struct snapshot *s = mem_new(struct snapshot);

        err_ignore(json_table_load(&snapshot_table, j, s, NULL));
        if (came && !json_has_string(came, s->name)) {
            snapshot_free(s);
            continue;
        }
        container_add_snapshot(c, s);
        record_put_snapshot(tx, c, s);
    }
}
