/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/containers/share.h"

#include <assert.h>

#include "agent/events/event.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"

#define SOON_S ((int64_t)24 * 3600) /* an expiry is announced this long before, once */

const char *const share_mode_words[] = {"readonly", "readwrite", NULL};

#define S(kind, member, ...) F_##kind(struct share, member, __VA_ARGS__)
static const struct json_field fields[] = {
    S(STRING, id, .required = true),
    S(STRING, source_container_id, .required = true),
    S(STRING, source_path, .required = true),
    S(STRING, target_container_id, .nullable = true),
    S(STRING, target_project_id, .nullable = true),
    S(STRING, alias, .nullable = true),
    S(STRING, label, .nullable = true),
    S(STRING, description, .nullable = true),
    S(STRING, created_by, .required = true),
    F_ENUM(struct share, mode, share_mode_words, .required = true),
    S(BOOL, enabled),
    S(BOOL, expiry_notified),
    S(INT, expires_at),
    S(INT, created_at),
    S(INT, updated_at),
    S(JSON, switches, .required = true, .has_type = true, .type = JSON_OBJECT),
};
JSON_TABLE(share_table, "share", fields);

void share_free(struct share *s)
{
    if (!s)
        return;
    json_decref(s->problems);
    json_table_clear(&share_table, s);
    free(s);
}

struct share *share_find(const struct agent *a, const char *id)
{
    for (size_t i = 0; i < a->share_count; i++)
        if (str_eq(a->shares[i]->id, id))
            return a->shares[i];
    return NULL;
}

void share_add(struct agent *a, struct share *s)
{
    if (!s->problems)
        s->problems = json_object();
    a->shares = mem_grow(a->shares, a->share_count + 1, sizeof(struct share *));
    a->shares[a->share_count++] = s;
}

/* The order of creation stays. */
void share_take_out(struct agent *a, const struct share *s)
{
    size_t i = 0;

    while (i < a->share_count && a->shares[i] != s)
        i++;
    assert(i < a->share_count);
    for (a->share_count--; i < a->share_count; i++)
        a->shares[i] = a->shares[i + 1];
}

void share_remove(struct agent *a, struct share *s)
{
    share_take_out(a, s);
    share_free(s);
}

void record_put_share(struct store_tx *tx, const struct share *s)
{
    store_tx_add(tx, STORE_SHARE_PUT,
                 json_pack("[s, s, o]", s->id, s->source_container_id, store_text(json_table_save(&share_table, s))));
}

void share_event(struct agent *a, struct store_tx *tx, const struct share *s, const char *word)
{
    const struct container *source = agent_find(a, s->source_container_id);
    autofree char *type = str_fmt("storage.share.%s", word);

    event_add_for(
        a, tx, type, "storage_share", s->id, source ? source->record.project_id : NULL, s->source_container_id,
        json_pack("{s:s, s:s, s:s?, s:s?, s:s, s:b}", "source_container_id", s->source_container_id, "source_path",
                  s->source_path, "target_container_id", s->target_container_id, "target_project_id",
                  s->target_project_id, "mode", share_mode_words[s->mode], "enabled", s->enabled));
}

void share_drop(struct agent *a, struct store_tx *tx, struct share *s, const char *word)
{
    store_tx_add(tx, STORE_SHARE_DELETE, json_pack("[s]", s->id));
    share_event(a, tx, s, word);
}

bool share_is_expired(const struct share *s)
{
    return s->expires_at > 0 && s->expires_at <= clock_wall_ms() / 1000;
}

bool share_is_for(const struct share *s, const struct container *c)
{
    if (str_eq(s->source_container_id, c->record.id))
        return false;
    return s->target_container_id ? str_eq(s->target_container_id, c->record.id)
                                  : str_eq(s->target_project_id, c->record.project_id);
}

bool share_is_wanted_by(const struct share *s, const struct container *c)
{
    return !json_is_false(json_object_get(json_object_get(s->switches, c->record.id), "mount"));
}

bool share_is_incoming(const struct agent *a, const struct share *s, const struct container *c)
{
    if (!share_is_for(s, c) || share_is_expired(s))
        return false;
    for (size_t i = 0; !s->target_container_id && i < a->share_count; i++) {
        const struct share *other = a->shares[i];

        if (other->target_container_id && share_is_for(other, c) && !share_is_expired(other) &&
            str_eq(other->source_container_id, s->source_container_id) && str_eq(other->source_path, s->source_path))
            return false;
    }
    return true;
}

char *share_mount_path(const struct share *s)
{
    return str_fmt("/hoody/shares/%s", s->id);
}

static void drop_all(struct agent *a, struct store_tx *tx, const char *container_id, const char *project_id)
{
    for (size_t i = a->share_count; i > 0; i--) {
        struct share *s = a->shares[i - 1];
        bool concerned =
            container_id ? str_eq(s->source_container_id, container_id) || str_eq(s->target_container_id, container_id)
                         : str_eq(s->target_project_id, project_id);

        if (concerned) {
            share_drop(a, tx, s, "deleted");
            share_mounts_mark(a, s);
            share_remove(a, s);
        } else if (container_id) {
            json_object_del(s->switches, container_id);
            json_object_del(s->problems, container_id);
        }
    }
}

void shares_container_gone(struct agent *a, struct store_tx *tx, const struct container *c)
{
    drop_all(a, tx, c->record.id, NULL);
}

void shares_project_gone(struct agent *a, struct store_tx *tx, const char *project_id)
{
    drop_all(a, tx, NULL, project_id);
}

static void on_recorded(void *owner, struct err *e)
{
    log_err(NULL, LOG_LEVEL_ERR, e, "the expiry of a share is not recorded; it is looked at again at the next start");
    share_mounts_refresh(owner);
}

void shares_expire(struct agent *a)
{
    int64_t now = clock_wall_ms() / 1000;
    struct store_tx *tx = store_tx_new();

    for (size_t i = a->share_count; i > 0; i--) {
        struct share *s = a->shares[i - 1];

        if (share_is_expired(s)) {
            share_drop(a, tx, s, "expired");
            share_mounts_mark(a, s);
            share_remove(a, s);
        } else if (s->expires_at > 0 && !s->expiry_notified && s->expires_at - now <= SOON_S) {
            s->expiry_notified = true;
            record_put_share(tx, s);
            share_event(a, tx, s, "expiring_soon");
        }
    }
    agent_commit(a, tx, a, on_recorded);
}
