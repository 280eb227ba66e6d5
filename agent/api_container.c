/* SPDX-License-Identifier: Apache-2.0 */
/* List, get, delete and the six operations. */
#include "agent/api.h"
#include "base/str.h"

enum list_order { BY_CREATED, BY_ID, BY_NAME, BY_STATUS, BY_UPDATED };
static const char *const sort_words[] = {"created_at", "id", "name", "status", "updated_at", NULL};
static const char *const order_words[] = {"desc", "asc", NULL};

static int64_t compare_keys(const struct container *x, const struct container *y, enum list_order by)
{
    switch (by) {
    case BY_CREATED:
        return x->record.created_at - y->record.created_at;
    case BY_UPDATED:
        return x->record.updated_at - y->record.updated_at;
    case BY_NAME:
        return strcmp(x->record.name, y->record.name);
    case BY_STATUS:
        return strcmp(container_status_word(x), container_status_word(y));
    case BY_ID:
        break;
    }
    return strcmp(x->record.id, y->record.id);
}

struct sort {
    int by, order;
};

static int compare(const void *x, const void *y, void *arg)
{
    const struct container *const *cx = x, *const *cy = y;
    const struct sort *s = arg;
    int64_t d = compare_keys(*cx, *cy, (enum list_order)s->by);

    if (d == 0)
        d = strcmp((*cx)->record.id, (*cy)->record.id);
    if (s->order == 0)
        d = -d;
    return d < 0 ? -1 : d > 0;
}

static void list(struct api_call *call, const char *project_id)
{
    const struct agent *a = call->agent;
    autofree struct container **found = mem_new_array(struct container *, a->container_count);
    json_t *page_items = json_array();
    int64_t page = 1, limit = 50;
    struct sort sort = {0};
    size_t n = 0;
    struct err *e = query_int(call, "page", 1, INT32_MAX, 1, &page);

    if (!e)
        e = query_int(call, "limit", 1, 100, 50, &limit);
    if (!e)
        e = query_choice(call, "sort_by", sort_words, &sort.by);
    if (!e)
        e = query_choice(call, "sort_order", order_words, &sort.order);
    if (e) {
        json_decref(page_items);
        reply_err(call->req, e);
        return;
    }
    for (size_t i = 0; i < a->container_count; i++) {
        struct container *c = a->containers[i];

        if (project_id && !str_eq(c->record.project_id, project_id))
            continue;
        if (c->record.status == CONTAINER_DELETING && !query_true(call, "include_deleting"))
            continue;
        found[n++] = c;
    }
    qsort_r(found, n, sizeof(struct container *), compare, &sort);
    for (size_t i = (size_t)((page - 1) * limit); i < n && i < (size_t)(page * limit); i++)
        json_array_append_new(page_items, container_to_json(a, found[i]));
    reply_ok(call->req, 200, "Containers retrieved successfully",
             json_pack("{s:o, s:o}", "containers", page_items, "pagination", api_pagination((int64_t)n, page, limit)));
}

void containers_list(struct api_call *call)
{
    list(call, NULL);
}

void containers_list_project(struct api_call *call)
{
    list(call, call->params[0]);
}

void container_get(struct api_call *call)
{
    json_t *j = container_to_json(call->agent, call->container);

    json_object_set_new(j, "warnings", json_array());
    reply_ok(call->req, 200, "Container retrieved successfully", j);
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
    struct err *e = operation_check_free(c, "delete");
    struct operation *op;

    if (!e && c->copies > 0)
        e = err_reason(err_new(ERR_BUSY, "The container is being copied"), "RESOURCE_IN_USE");
    if (e) {
        reply_err(call->req, e);
        return;
    }
    op = operation_new(call->agent, &op_delete, c, NULL, "user");
    op->req = call->req;
    op->done = deleted;
    operation_start(op, NULL);
}
