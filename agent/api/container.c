/* SPDX-License-Identifier: Apache-2.0 */
/* List, get, delete and the six operations. */
#include "agent/api/api.h"
#include "agent/containers/project.h"
#include "agent/containers/texts.h"
#include "agent/operations/takeover.h"
#include "agent/stats/runtime.h"
#include "base/str.h"

enum list_order { BY_CREATED, BY_ID, BY_NAME, BY_STATUS, BY_UPDATED };
static const char *const sort_words[] = {"created_at", "id", "name", "status", "updated_at", NULL};

static int64_t compare(const void *x, const void *y, int by)
{
    const struct container *c = x, *d = y;

    switch ((enum list_order)by) {
    case BY_CREATED:
        return c->record.created_at - d->record.created_at;
    case BY_UPDATED:
        return c->record.updated_at - d->record.updated_at;
    case BY_NAME:
        return strcmp(c->record.name, d->record.name);
    case BY_STATUS:
        return strcmp(container_status_word(c), container_status_word(d));
    case BY_ID:
        break;
    }
    return strcmp(c->record.id, d->record.id);
}

static json_t *to_json(const struct agent *a, const void *c)
{
    return container_to_json(a, c);
}

static const struct text *to_text(const struct agent *a, const void *c)
{
    return texts_object(a, (struct container *)(uintptr_t)c);
}

/* The filters of a list. */
struct filter {
    const char *project_id, *realm_id;
    bool deleting;
};

static struct err *load_filter(const struct api_call *call, struct filter *f)
{
    /* Nothing on a node is spare, expires, or is known to its proxy's pages. */
    static const char *const without_effect[] = {"include_expired", "include_prespawn", "include_proxy_domains",
                                                 "include_proxy_permissions"};
    struct err *e = query_bool(call, "include_deleting", &f->deleting);
    bool ignored;

    for (size_t i = 0; !e && i < ARRAY_LEN(without_effect); i++)
        e = query_bool(call, without_effect[i], &ignored);
    f->realm_id = http_query(call->req, "realm_id");
    if (!e && f->realm_id && !str_is_object_id(f->realm_id))
        e = err_field("realm_id", "must be 24 lower case hex digits");
    return e;
}

static void list(struct api_call *call, const char *project_id)
{
    static const struct list_kind plain = {
        .member = "containers", .limit = 50, .sort_words = sort_words, .compare = compare, .to_text = to_text};
    static const struct list_kind with_runtime = {.member = "containers",
                                                  .limit = 50,
                                                  .sort_words = sort_words,
                                                  .compare = compare,
                                                  .to_json = to_json,
                                                  .reply = runtime_reply};
    const struct agent *a = call->agent;
    autofree const void **found = mem_new_array(const void *, a->container_count);
    struct filter f = {.project_id = project_id};
    struct err *e = load_filter(call, &f);
    size_t n = 0;

    if (e) {
        reply_err(call->req, e);
        return;
    }
    for (size_t i = 0; i < a->container_count; i++) {
        const struct container *c = a->containers[i];

        if (c->record.spare || (f.project_id && !str_eq(c->record.project_id, f.project_id)) ||
            (f.realm_id && !json_has_string(c->record.realm_ids, f.realm_id)) ||
            (c->record.status == CONTAINER_DELETING && !f.deleting))
            continue;
        found[n++] = c;
    }
    reply_list(call, http_query(call->req, "runtime") ? &with_runtime : &plain, found, n,
               "Containers retrieved successfully");
}

void containers_list(struct api_call *call)
{
    list(call, NULL);
}

void containers_list_project(struct api_call *call)
{
    if (project_find(call->agent, call->params[0]))
        list(call, call->params[0]);
    else
        reply_err(call->req, err_reason(err_new(ERR_NOT_FOUND, "Project not found"), "RESOURCE_NOT_FOUND"));
}

void container_get(struct api_call *call)
{
    json_t *j = container_to_json(call->agent, call->container);
    autojson one = NULL;

    json_object_set_new(j, "warnings", json_array());
    one = json_pack("[O]", j);
    runtime_reply(call, "Container retrieved successfully", j, one);
}

static void deleted(struct operation *op, struct err *e)
{
    if (e)
        reply_host_err(op->req, e);
    else
        reply_ok(op->req, 200, "Container deleted successfully", NULL);
}

void container_delete(struct api_call *call)
{
    struct container *c = call->container;
    struct err *e = operation_check_takeover(c, "delete");
    struct operation *op;

    if (!e)
        e = container_check_unread(c);
    if (e) {
        reply_err(call->req, e);
        return;
    }
    op = operation_new(call->agent, &op_delete, c, NULL, "user");
    op->req = call->req;
    op->done = deleted;
    operation_take_over(op);
}

void container_authorize(struct api_call *call)
{
    reply_err(call->req,
              err_reason(err_new(ERR_UNAVAILABLE, "Claims are signed by the control plane: this server has no "
                                                  "key for that"),
                         "SIGNING_NOT_CONFIGURED"));
}
