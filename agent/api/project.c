/* SPDX-License-Identifier: Apache-2.0 */
/* Projects: list, create, get, update, delete (contract, section 2.10). */
#include "agent/containers/project.h"
#include "agent/api/api.h"
#include "agent/events/event.h"
#include "base/clock.h"
#include "base/id.h"
#include "base/str.h"

enum { ALIAS_MAX = 100, LIST_DEFAULT = 10 };

struct body {
    char *id, *user_id;
    json_t *alias, *color, *max_containers; /* have codes of their own for what is wrong with them */
    json_t *realm_ids;
};
static const struct json_field body_fields[] = {
    F_STRING(struct body, id, .nullable = true, .valid = str_is_object_id, .rule = "must be 24 lower case hex digits"),
    F_STRING(struct body, user_id, .nullable = true, .valid = str_is_object_id,
             .rule = "must be 24 lower case hex digits"),
    F_JSON(struct body, alias, .nullable = true),
    F_JSON(struct body, color, .nullable = true),
    F_JSON(struct body, max_containers, .nullable = true),
    F_JSON(struct body, realm_ids, .nullable = true, .has_type = true, .type = JSON_ARRAY),
};
/* The platform's schema allows further fields. */
static JSON_TABLE(body_table, NULL, body_fields, .open = true);

enum { HAS_MAX = 1 << 4 }; /* bit of max_containers in the table */

static struct err *not_found(void)
{
    return err_reason(err_new(ERR_NOT_FOUND, "Project not found"), "PROJECT_NOT_FOUND");
}

static struct err *find(const struct api_call *call, struct project **ret)
{
    *ret = project_find(call->agent, call->params[0]);
    return *ret ? NULL : not_found();
}

/* One that can be changed. */
static struct err *find_free(const struct api_call *call, struct project **ret)
{
    struct err *e = find(call, ret);

    if (!e && ((*ret)->deleting && project_delete_running(call->agent, (*ret)->id)))
        e = err_reason(err_new(ERR_CONFLICT, "The project is being deleted"), "RESOURCE_IN_USE");
    return e;
}

static struct err *check_alias(const json_t *alias)
{
    const char *s = json_string_value(alias);

    if (!alias)
        return NULL;
    if (!s || strlen(s) != json_string_length(alias) || str_has_control(s) || !*s || str_chars(s) > ALIAS_MAX)
        return err_reason(err_field("alias", "must be 1..%d characters, none of control", ALIAS_MAX),
                          "INVALID_ALIAS_FORMAT");
    return NULL;
}

static struct err *check_color(const json_t *color, char **ret)
{
    struct err *e;

    if (!color || json_is_null(color))
        return NULL;
    *ret = str_dup(json_is_string(color) ? json_string_value(color) : "no string");
    e = api_check_color("color", ret);
    return err_reason(e, "INVALID_COLOR_FORMAT");
}

static struct err *check_quota(const json_t *max, int64_t *ret)
{
    double n = json_number_value(max);

    *ret = -1;
    if (!max || json_is_null(max))
        return NULL;
    if (!json_is_number(max) || n < 0 || n > 1e9 || n != (double)(int64_t)n)
        return err_reason(err_field("max_containers", "must be a whole number of 0 or more, or null"),
                          "INVALID_QUOTA_VALUE");
    *ret = (int64_t)n;
    return NULL;
}

/* What a body says, checked and ready to be put into a project. */
struct wanted {
    const char *alias; /* NULL: as it is; borrowed from the body, like realm_ids */
    char *color;
    bool has_max;
    int64_t max_containers;
    json_t *realm_ids;
};

/* self: the project that is changed; NULL for a new one. */
static struct err *check_body(const struct agent *a, const struct body *b, uint64_t present, const struct project *self,
                              struct wanted *ret)
{
    const struct project *other;
    struct err *e = check_alias(b->alias);

    if (!e)
        e = check_color(b->color, &ret->color);
    if (!e)
        e = check_quota(b->max_containers, &ret->max_containers);
    if (!e)
        e = api_check_realms("realm_ids", b->realm_ids);
    if (e)
        return e;
    ret->alias = json_string_value(b->alias);
    ret->has_max = present & HAS_MAX;
    ret->realm_ids = b->realm_ids;
    other = ret->alias ? project_find_by_alias(a, ret->alias) : NULL;
    if (other && other != self)
        return err_reason(err_recode(err_field("alias", "another project has this alias"), ERR_CONFLICT),
                          "DUPLICATE_ALIAS");
    return NULL;
}

static void apply(struct project *p, struct wanted *w)
{
    if (w->alias)
        str_set(&p->alias, w->alias);
    if (w->color) {
        free(p->color);
        p->color = steal(&w->color);
    }
    if (w->has_max)
        p->max_containers = w->max_containers;
    if (w->realm_ids) {
        json_decref(p->realm_ids);
        p->realm_ids = json_copy(w->realm_ids);
    }
    p->updated_at = clock_wall_ms();
}

/* A change that is being recorded. */
struct change {
    struct agent *agent;
    struct http_request *req;
    char *id;
    int status;
    json_t *before; /* the project as it was; NULL: it is new */
    int64_t updated_at;
};

static void undo(const struct change *ch, struct project *p)
{
    if (!p || p->updated_at != ch->updated_at)
        return; /* somebody has changed it again */
    if (!ch->before) {
        project_remove(ch->agent, p);
        return;
    }
    json_table_clear(&project_table, p);
    err_ignore(json_table_load(&project_table, ch->before, p, NULL));
}

static void on_recorded(void *owner, struct err *e)
{
    struct change *ch = owner;
    struct project *p = project_find(ch->agent, ch->id);

    if (e) {
        undo(ch, p);
        reply_host_err(ch->req, e);
    } else if (!p) {
        reply_err(ch->req, not_found());
    } else {
        reply_ok(ch->req, ch->status,
                 ch->status == 201 ? "Project created successfully" : "Project updated successfully",
                 project_to_json(p));
    }
    json_decref(ch->before);
    free(ch->id);
    free(ch);
}

/* before is taken over. */
static void record(struct api_call *call, const struct project *p, int status, json_t *before)
{
    struct store_tx *tx = store_tx_new();
    struct change *ch = mem_new(struct change);

    *ch = (struct change){.agent = call->agent,
                          .req = call->req,
                          .id = str_dup(p->id),
                          .status = status,
                          .before = before,
                          .updated_at = p->updated_at};
    record_put_project(tx, p);
    event_add_for(call->agent, tx, status == 201 ? "project.created" : "project.updated", "project", p->id, p->id, NULL,
                  project_to_json(p));
    agent_commit(call->agent, tx, ch, on_recorded);
}

/* The project of an id that the body names: the same create again, or one that a container has named before. */
static struct err *find_repeat(struct api_call *call, const struct body *b, struct project **ret)
{
    struct project *p = b->id ? project_find(call->agent, b->id) : NULL;

    if (p && (p->deleting || p->is_default || (p->request && !json_equal(p->request, call->body))))
        return err_reason(err_new(ERR_CONFLICT, "id: a project with this id was created differently"),
                          "RESOURCE_IN_USE");
    *ret = p;
    return NULL;
}

static void create(struct api_call *call, const struct body *b, struct project *p, struct wanted *w)
{
    char minted[ID_OBJECT_LEN + 1];
    json_t *before = p ? json_table_save(&project_table, p) : NULL;

    id_object(minted);
    if (!p) {
        p = project_new(call->agent, b->id ? b->id : minted, w->alias);
        project_add(call->agent, p);
    }
    if (b->user_id)
        str_set(&p->user_id, b->user_id);
    apply(p, w);
    p->request = json_incref(call->body);
    record(call, p, 201, before);
}

void projects_create(struct api_call *call)
{
    struct body b = {0};
    struct wanted w = {0};
    struct project *p = NULL;
    uint64_t present = 0;
    struct err *e = json_table_load(&body_table, call->body, &b, &present);

    if (!e && !json_is_string(b.alias))
        e = check_alias(b.alias ? b.alias : json_null());
    if (!e)
        e = find_repeat(call, &b, &p);
    if (!e && p && p->request) {
        reply_ok(call->req, 201, "Project created successfully", project_to_json(p));
    } else {
        if (!e)
            e = check_body(call->agent, &b, present, p, &w);
        if (e)
            reply_err(call->req, e);
        else
            create(call, &b, p, &w);
    }
    free(w.color);
    json_table_clear(&body_table, &b);
}

void projects_get(struct api_call *call)
{
    struct project *p;
    struct err *e = find(call, &p);
    bool ignored;

    if (!e)
        e = query_bool(call, "include_permissions", &ignored);
    if (e)
        reply_err(call->req, e);
    else
        reply_ok(call->req, 200, "Project retrieved successfully", project_to_json(p));
}

void projects_update(struct api_call *call)
{
    struct body b = {0};
    struct wanted w = {0};
    struct project *p = NULL;
    uint64_t present = 0;
    json_t *before;
    struct err *e = json_table_load(&body_table, call->body, &b, &present);

    if (!e)
        e = find_free(call, &p);
    if (!e && p->deleting)
        e = err_reason(err_new(ERR_CONFLICT, "The project is being deleted"), "RESOURCE_IN_USE");
    /* PUT is of a whole project: it needs what every project must have. */
    if (!e && (call->verb == PUT || json_is_null(json_object_get(call->body, "alias"))))
        e = check_alias(b.alias ? b.alias : json_null());
    if (!e)
        e = check_body(call->agent, &b, present, p, &w);
    if (e) {
        reply_err(call->req, e);
    } else {
        before = json_table_save(&project_table, p);
        apply(p, &w);
        record(call, p, 200, before);
    }
    free(w.color);
    json_table_clear(&body_table, &b);
}

struct removal {
    struct http_request *req;
    json_t *items; /* of the containers that it has to delete: id and name */
    bool include_items;
};

static void on_deleted(void *owner, struct err *e)
{
    struct removal *r = owner;
    json_t *data = json_pack("{s:{s:I, s:i, s:i}}", "deleted", "containers", (json_int_t)json_array_size(r->items),
                             "permissions", 0, "aliases", 0);

    if (r->include_items)
        json_object_set_new(data, "deleted_items", json_pack("{s:O}", "containers", r->items));
    if (e) {
        json_decref(data);
        reply_host_err(r->req, e);
    } else {
        reply_ok(r->req, 200, "Project deleted successfully", data);
    }
    json_decref(r->items);
    free(r);
}

void projects_delete(struct api_call *call)
{
    struct agent *a = call->agent;
    bool include_items = false;
    struct removal *r;
    struct project *p;
    struct err *e = query_bool(call, "include_deleted_items", &include_items);

    if (!e)
        e = find_free(call, &p);
    if (!e && p->is_default)
        e = err_reason(err_new(ERR_CONFLICT, "The default project cannot be deleted"), "RESOURCE_IN_USE");
    if (e) {
        reply_err(call->req, e);
        return;
    }
    r = mem_new(struct removal);
    *r = (struct removal){.req = call->req, .items = json_array(), .include_items = include_items};
    for (size_t i = 0; i < a->container_count; i++) {
        const struct container_record *c = &a->containers[i]->record;

        if (str_eq(c->project_id, p->id))
            json_array_append_new(r->items, json_pack("{s:s, s:s}", "id", c->id, "name", c->name));
    }
    project_delete(a, p, "user", r, on_deleted);
}

enum list_order { BY_CREATED, BY_ID, BY_ALIAS, BY_UPDATED };
static const char *const sort_words[] = {"created_at", "id", "alias", "updated_at", NULL};

static int64_t compare(const void *x, const void *y, int by)
{
    const struct project *p = x, *q = y;

    switch ((enum list_order)by) {
    case BY_CREATED:
        return p->created_at - q->created_at;
    case BY_UPDATED:
        return p->updated_at - q->updated_at;
    case BY_ALIAS:
        return strcmp(p->alias, q->alias);
    case BY_ID:
        break;
    }
    return strcmp(p->id, q->id);
}

static json_t *to_json(const struct agent *a, const void *p)
{
    (void)a;
    return project_to_json(p);
}

void projects_list(struct api_call *call)
{
    static const struct list_kind kind = {
        .member = "projects", .limit = LIST_DEFAULT, .sort_words = sort_words, .compare = compare, .to_json = to_json};
    const struct agent *a = call->agent;
    autofree const void **found = mem_new_array(const void *, a->project_count);
    size_t n = 0;

    for (size_t i = 0; i < a->project_count; i++)
        if (!a->projects[i]->deleting)
            found[n++] = a->projects[i];
    reply_list(call, &kind, found, n, "Projects retrieved successfully");
}
