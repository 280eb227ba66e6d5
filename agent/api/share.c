/* SPDX-License-Identifier: Apache-2.0 */
/* Shares as their source sees them (contract, section 2.6). */
#include "agent/api/share.h"

#include <stdio.h>

#include "agent/containers/project.h"
#include "base/clock.h"
#include "base/id.h"
#include "base/str.h"

enum { PATH_MAX_LEN = 4096, NAME_MIN = 3, NAME_MAX_LEN = 63, DESCRIPTION_MAX = 1000, SHARES_MAX = 128 };

static bool is_name(const char *s)
{
    return str_is_made_of(s, "abcdefghijklmnopqrstuvwxyz0123456789_-", NAME_MAX_LEN) && strlen(s) >= NAME_MIN &&
           !strchr("_-", s[0]) && !strchr("_-", s[strlen(s) - 1]);
}

#define ID_RULE .nullable = true, .valid = str_is_object_id, .rule = "must be 24 lower case hex digits"
#define NAME_RULE                                                                                                      \
    .nullable = true, .valid = is_name,                                                                                \
    .rule = "must be 3..63 of a-z, 0-9, '_', '-', with a letter or digit at both ends"

struct share_body {
    char *source_path, *target_container_id, *target_project_id, *alias, *label, *description;
    int mode;
    bool enabled;
    int64_t expires_at;
};
#define B(kind, member, ...) F_##kind(struct share_body, member, __VA_ARGS__)
#define COMMON_FIELDS(needed)                                                                                          \
    F_ENUM(struct share_body, mode, share_mode_words, .required = (needed)), B(STRING, alias, NAME_RULE),              \
        B(STRING, label, NAME_RULE), B(STRING, description, .nullable = true, .min = 0, .max = DESCRIPTION_MAX),       \
        B(BOOL, enabled), B(INT, expires_at, .nullable = true, .min = 0, .max = INT64_MAX / 1000)

static const struct json_field create_fields[] = {
    COMMON_FIELDS(true),
    B(STRING, source_path, .required = true, .min = 1, .max = PATH_MAX_LEN),
    B(STRING, target_container_id, ID_RULE),
    B(STRING, target_project_id, ID_RULE),
};
static JSON_TABLE(create_table, NULL, create_fields);

/* In the order of the bits of `present`. */
enum { BIT_MODE, BIT_ALIAS, BIT_LABEL, BIT_DESCRIPTION, BIT_ENABLED, BIT_EXPIRES_AT };
static const struct json_field update_fields[] = {COMMON_FIELDS(false)};
static JSON_TABLE(update_table, NULL, update_fields);

/* What is mounted by the container itself, or has no business outside of it. */
static const char *const refused_trees[] = {"/proc", "/sys", "/dev", "/boot", "/run", "/var/run"};

static struct err *bad_path(const char *why)
{
    return err_reason(err_field("source_path", "%s", why), "INVALID_PATH");
}

/* *path becomes its normal form. */
static struct err *check_path(char **path)
{
    autofree char *from = str_dup(*path), *to = mem_alloc(strlen(*path) + 2, 1);
    char *rest = from, *part;
    size_t len = 0;

    if (from[0] != '/' ||
        !str_is_made_of(from, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/-_.", PATH_MAX_LEN))
        return bad_path("must be an absolute path of letters, digits, '/', '-', '_' and '.'");
    while ((part = strsep(&rest, "/"))) {
        if (strcmp(part, "..") == 0)
            return bad_path("must not have a '..' part");
        if (part[0] && strcmp(part, ".") != 0)
            len += (size_t)snprintf(to + len, strlen(*path) + 2 - len, "/%s", part);
    }
    for (size_t i = 0; i < ARRAY_LEN(refused_trees); i++) {
        size_t n = strlen(refused_trees[i]);

        if (strncmp(to, refused_trees[i], n) == 0 && (!to[n] || to[n] == '/'))
            return bad_path("is in a tree that cannot be shared");
    }
    free(*path);
    *path = len ? steal(&to) : str_dup("/");
    return NULL;
}

static struct err *check_target(const struct api_call *call, const struct share_body *b)
{
    struct err *e = NULL;

    if (!b->target_container_id == !b->target_project_id)
        return err_field("target_container_id", "or target_project_id must be given, and not both");
    if (str_eq(b->target_container_id, call->container->record.id))
        return err_reason(err_field("target_container_id", "is the container itself"), "SELF_SHARE");
    if (b->target_container_id && !agent_find(call->agent, b->target_container_id))
        e = err_new(ERR_NOT_FOUND, "target_container_id: this server has no such container");
    if (b->target_project_id && !project_find(call->agent, b->target_project_id))
        e = err_new(ERR_NOT_FOUND, "target_project_id: this server has no such project");
    return e ? err_reason(e, "RESOURCE_NOT_FOUND") : NULL;
}

static struct err *check_room(const struct api_call *call, const struct share_body *b)
{
    size_t count = 0;

    for (size_t i = 0; i < call->agent->share_count; i++) {
        const struct share *s = call->agent->shares[i];

        if (!str_eq(s->source_container_id, call->container->record.id))
            continue;
        count++;
        if (str_eq(s->source_path, b->source_path) && str_eq(s->target_container_id, b->target_container_id) &&
            str_eq(s->target_project_id, b->target_project_id))
            return err_reason(err_new(ERR_CONFLICT, "This directory is shared with that target already"),
                              "SHARE_ALREADY_EXISTS");
    }
    if (count >= SHARES_MAX)
        return err_reason(err_new(ERR_TOO_MANY, "A container shares at most %d directories", SHARES_MAX),
                          "RATE_LIMIT_EXCEEDED");
    return NULL;
}

struct err *api_find_share(const struct api_call *call, const char *id, struct share **ret)
{
    if (!str_is_object_id(id))
        return err_reason(err_field("share_id", "must be 24 hex digits"), "INVALID_ID_FORMAT");
    *ret = share_find(call->agent, id);
    return *ret ? NULL : err_reason(err_new(ERR_NOT_FOUND, "Share not found"), "RESOURCE_NOT_FOUND");
}

/* A share that is being changed or removed: recorded, then brought into its receivers, then answered. It may be gone
 * when that is over. */
struct share_change {
    struct agent *agent;
    struct http_request *req;
    char *id;
    json_t *before;     /* of an update: to go back to */
    struct share *gone; /* of a deletion: out of the registry, to be put back when it fails */
    int status;
};

static void end(struct share_change *ch)
{
    share_free(ch->gone);
    json_decref(ch->before);
    free(ch->id);
    free(ch);
}

/* It cannot be recorded. */
static void undo(struct share_change *ch, struct share *s)
{
    /* Somebody else's refresh may have seen it. */
    if (s || ch->gone)
        share_mounts_mark(ch->agent, s ? s : ch->gone);
    if (ch->gone)
        share_add(ch->agent, steal(&ch->gone));
    if (ch->before && s) {
        json_table_clear(&share_table, s);
        err_ignore(json_table_load(&share_table, ch->before, s, NULL));
    }
    if (ch->status == 201 && s)
        share_remove(ch->agent, s);
    share_mounts_refresh(ch->agent);
}

/* That a directory cannot be mounted is no error: the share's status says so. */
static void on_settled(void *owner, struct err *e)
{
    struct share_change *ch = owner;
    const struct share *s = share_find(ch->agent, ch->id);

    if (e)
        reply_host_err(ch->req, err_wrap(e, "recorded, but not in effect yet"));
    else if (ch->gone)
        reply_ok(ch->req, 200, "Share deleted successfully", NULL);
    else if (s)
        reply_ok(ch->req, ch->status, ch->status == 201 ? "Share created successfully" : "Share updated successfully",
                 share_to_json(ch->agent, s));
    else
        reply_err(ch->req, err_reason(err_new(ERR_NOT_FOUND, "Share not found"), "RESOURCE_NOT_FOUND"));
    end(ch);
}

static void on_recorded(void *owner, struct err *e)
{
    struct share_change *ch = owner;
    struct share *s = share_find(ch->agent, ch->id);

    if (e) {
        undo(ch, s);
        reply_err(ch->req, e);
        end(ch);
    } else if (s || ch->gone) {
        share_mounts_settle(ch->agent, s ? s : ch->gone, NULL, ch, on_settled);
    } else {
        on_settled(ch, NULL); /* somebody has deleted it */
    }
}

static void record(struct api_call *call, struct share *s, struct store_tx *tx, struct share_change how)
{
    struct share_change *ch = mem_new(struct share_change);

    *ch = how;
    ch->agent = call->agent;
    ch->req = call->req;
    ch->id = str_dup(s->id);
    agent_commit(call->agent, tx, ch, on_recorded);
}

static struct share *make(const struct api_call *call, struct share_body *b)
{
    struct share *s = mem_new(struct share);
    char id[25];

    id_object(id);
    s->id = str_dup(id);
    s->source_container_id = str_dup(call->container->record.id);
    s->created_by = str_dup(call->agent->node_id);
    s->source_path = steal(&b->source_path);
    s->target_container_id = steal(&b->target_container_id);
    s->target_project_id = steal(&b->target_project_id);
    s->alias = steal(&b->alias);
    s->label = steal(&b->label);
    s->description = steal(&b->description);
    s->mode = b->mode;
    s->enabled = b->enabled;
    s->expires_at = b->expires_at;
    s->created_at = s->updated_at = clock_wall_ms();
    s->switches = json_object();
    return s;
}

void share_create(struct api_call *call)
{
    struct share_body b = {.enabled = true};
    struct err *e = json_table_load(&create_table, call->body, &b, NULL);
    struct store_tx *tx;
    struct share *s;

    if (!e)
        e = check_path(&b.source_path);
    if (!e)
        e = check_target(call, &b);
    if (!e)
        e = container_check_staying(call->container);
    if (!e)
        e = check_room(call, &b);
    if (e) {
        json_table_clear(&create_table, &b);
        reply_err(call->req, e);
        return;
    }
    s = make(call, &b);
    json_table_clear(&create_table, &b);
    share_add(call->agent, s);
    tx = store_tx_new();
    record_put_share(tx, s);
    share_event(call->agent, tx, s, "created");
    record(call, s, tx, (struct share_change){.status = 201});
}

static void replace(char **to, char **from, uint64_t present, int bit)
{
    if (present & (1u << bit)) {
        free(*to);
        *to = steal(from);
    }
}

static void apply(struct api_call *call, struct share *s, struct share_body *b, uint64_t present)
{
    struct share_change ch = {.status = 200, .before = json_table_save(&share_table, s)};
    struct store_tx *tx = store_tx_new();
    bool was_enabled = s->enabled;

    replace(&s->alias, &b->alias, present, BIT_ALIAS);
    replace(&s->label, &b->label, present, BIT_LABEL);
    replace(&s->description, &b->description, present, BIT_DESCRIPTION);
    if (present & (1u << BIT_MODE))
        s->mode = b->mode;
    if (present & (1u << BIT_ENABLED))
        s->enabled = b->enabled;
    if (present & (1u << BIT_EXPIRES_AT)) {
        s->expires_at = b->expires_at;
        s->expiry_notified = false;
    }
    s->updated_at = clock_wall_ms();
    record_put_share(tx, s);
    share_event(call->agent, tx, s, "updated");
    if (s->enabled != was_enabled)
        share_event(call->agent, tx, s, s->enabled ? "enabled" : "disabled");
    record(call, s, tx, ch);
}

/* The share of the path, of the container of the path. */
static struct err *find_own(const struct api_call *call, struct share **ret)
{
    struct err *e = api_find_share(call, call->params[1], ret);

    if (!e && !str_eq((*ret)->source_container_id, call->container->record.id))
        e = err_reason(err_new(ERR_NOT_FOUND, "Share not found"), "RESOURCE_NOT_FOUND");
    return e;
}

void share_update(struct api_call *call)
{
    struct share_body b = {0};
    struct share *s = NULL;
    uint64_t present = 0;
    struct err *e = json_table_load(&update_table, call->body, &b, &present);

    if (!e)
        e = find_own(call, &s);
    if (!e)
        e = container_check_staying(call->container);
    if (e)
        reply_err(call->req, e);
    else
        apply(call, s, &b, present);
    json_table_clear(&update_table, &b);
}

void share_get(struct api_call *call)
{
    struct share *s = NULL;
    struct err *e = find_own(call, &s);

    if (e)
        reply_err(call->req, e);
    else
        reply_ok(call->req, 200, "Share retrieved successfully", share_to_json(call->agent, s));
}

void share_delete(struct api_call *call)
{
    struct share *s = NULL;
    struct err *e = api_find_share(call, call->params[0], &s);
    struct store_tx *tx;

    if (e) {
        reply_err(call->req, e);
        return;
    }
    tx = store_tx_new();
    share_drop(call->agent, tx, s, "deleted");
    share_take_out(call->agent, s);
    record(call, s, tx, (struct share_change){.gone = s});
}
