/* SPDX-License-Identifier: Apache-2.0 */
/* Lists by pages: the order is total, equal keys stand by id, so that pages neither repeat nor miss what stays. */
#include "agent/api.h"
#include "base/str.h"

static const char *const order_words[] = {"desc", "asc", NULL};

struct sort {
    const struct list_kind *kind;
    int by, order;
};

static int compare(const void *x, const void *y, void *arg)
{
    const void *const *px = x, *const *py = y;
    const struct sort *s = arg;
    int64_t d = s->kind->compare(*px, *py, s->by);

    if (d == 0)
        d = s->kind->compare(*px, *py, LIST_BY_ID);
    if (s->order == 0)
        d = -d;
    return d < 0 ? -1 : d > 0;
}

void reply_list(const struct api_call *call, const struct list_kind *kind, const void **found, size_t n,
                const char *message)
{
    json_t *items = json_array(), *data;
    int64_t page = 1, limit = kind->limit;
    struct sort sort = {.kind = kind};
    struct err *e = query_int(call, "page", 1, INT32_MAX, 1, &page);

    if (!e)
        e = query_int(call, "limit", 1, 100, kind->limit, &limit);
    if (!e)
        e = query_choice(call, "sort_by", kind->sort_words, &sort.by);
    if (!e)
        e = query_choice(call, "sort_order", order_words, &sort.order);
    if (e) {
        json_decref(items);
        reply_err(call->req, e);
        return;
    }
    qsort_r(found, n, sizeof(*found), compare, &sort);
    for (size_t i = (size_t)((page - 1) * limit); i < n && i < (size_t)(page * limit); i++)
        json_array_append_new(items, kind->to_json(call->agent, found[i]));
    data = json_pack("{s:o, s:o}", kind->member, items, "pagination", api_pagination((int64_t)n, page, limit));
    if (kind->reply)
        kind->reply(call, message, data, items);
    else
        reply_ok(call->req, 200, message, data);
}
