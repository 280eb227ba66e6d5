/* SPDX-License-Identifier: Apache-2.0 */
/* Lists by pages: the order is total, equal keys stand by id, so that pages neither repeat nor miss what stays. */
#include "agent/api/api.h"
#include "agent/containers/texts.h"
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

/* pagination is taken over. */
static void reply_objects(const struct api_call *call, const struct list_kind *kind, const void **page, size_t n,
                          const char *message, json_t *pagination)
{
    json_t *items = json_array(), *data;

    for (size_t i = 0; i < n; i++)
        json_array_append_new(items, kind->to_json(call->agent, page[i]));
    data = json_pack("{s:o, s:o}", kind->member, items, "pagination", pagination);
    if (kind->reply)
        kind->reply(call, message, data, items);
    else
        reply_ok(call->req, 200, message, data);
}

static void reply_texts(const struct api_call *call, const struct list_kind *kind, const void **page, size_t n,
                        const char *message, json_t *pagination)
{
    autofree char *end = json_dumps(pagination, JSON_COMPACT);
    struct text_buffer b = {0};

    json_decref(pagination);
    text_add_format(&b, "{\"%s\":[", kind->member);
    for (size_t i = 0; i < n; i++) {
        const struct text *t = kind->to_text(call->agent, page[i]);

        text_add(&b, ",", i > 0);
        text_add(&b, t->text, t->len);
    }
    text_add_format(&b, "],\"pagination\":%s}", end);
    reply_ok_text(call->req, message, b.text);
    free(b.text);
}

void reply_list(const struct api_call *call, const struct list_kind *kind, const void **found, size_t n,
                const char *message)
{
    int64_t page = 1, limit = kind->limit;
    struct sort sort = {.kind = kind};
    size_t first;
    struct err *e = query_int(call, "page", 1, INT32_MAX, 1, &page);

    if (!e)
        e = query_int(call, "limit", 1, 100, kind->limit, &limit);
    if (!e)
        e = query_choice(call, "sort_by", kind->sort_words, &sort.by);
    if (!e)
        e = query_choice(call, "sort_order", order_words, &sort.order);
    if (e) {
        reply_err(call->req, e);
        return;
    }
    qsort_r(found, n, sizeof(*found), compare, &sort);
    first = MIN(n, (size_t)((page - 1) * limit));
    found += first;
    (kind->to_text ? reply_texts : reply_objects)(call, kind, found, MIN(n - first, (size_t)limit), message,
                                                  api_pagination((int64_t)n, page, limit));
}
