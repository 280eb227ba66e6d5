/* SPDX-License-Identifier: Apache-2.0 */
/* GET /containers/{id}/status-logs: read on the read lane, in pages. */
#include "agent/api/api.h"
#include "base/str.h"

static const char *const sort_words[] = {"transition_time", "created_at", "to_status", "from_status", NULL};
static const char *const order_words[] = {"desc", "asc", NULL};
static const enum store_statement pages[][2] = {
    {STORE_LOG_TIME_DESC, STORE_LOG_TIME_ASC},
    {STORE_LOG_CREATED_DESC, STORE_LOG_CREATED_ASC},
    {STORE_LOG_TO_DESC, STORE_LOG_TO_ASC},
    {STORE_LOG_FROM_DESC, STORE_LOG_FROM_ASC},
};

struct log_query {
    struct agent *agent;
    struct http_request *req;
    char *container_id;
    int64_t page, limit;
    int by, order;
    json_t *rows, *count;
};

static struct err *read_rows(void *arg)
{
    struct log_query *q = arg;
    struct err *e = store_query(q->agent->reader, STORE_LOG_COUNT, json_pack("[s]", q->container_id), &q->count);

    if (!e)
        e = store_query(
            q->agent->reader, pages[q->by][q->order],
            json_pack("[s, I, I]", q->container_id, (json_int_t)q->limit, (json_int_t)((q->page - 1) * q->limit)),
            &q->rows);
    return e;
}

static json_t *log_to_json(json_t *row)
{
    const char *meta = json_string_value(json_object_get(row, "metadata"));
    json_t *metadata = meta ? json_loads(meta, 0, NULL) : NULL;

    json_object_set_new(row, "transition_time", api_time(json_integer_value(json_object_get(row, "transition_time"))));
    json_object_set_new(row, "created_at", api_time(json_integer_value(json_object_get(row, "created_at"))));
    json_object_set_new(row, "metadata", metadata ? metadata : json_null());
    return json_incref(row);
}

static void answer(void *arg, struct err *e)
{
    struct log_query *q = arg;

    if (e) {
        reply_err(q->req, e);
    } else {
        json_t *logs = json_array(), *row;
        int64_t total = json_integer_value(json_object_get(json_array_get(q->count, 0), "total"));
        size_t i;

        json_array_foreach(q->rows, i, row) json_array_append_new(logs, log_to_json(row));
        reply_ok(q->req, 200, "Status logs retrieved successfully",
                 json_pack("{s:o, s:o}", "logs", logs, "pagination", api_pagination(total, q->page, q->limit)));
    }
    json_decref(q->rows);
    json_decref(q->count);
    free(q->container_id);
    free(q);
}

void container_status_logs(struct api_call *call)
{
    struct log_query *q = mem_new(struct log_query);
    struct err *e;

    *q = (struct log_query){.agent = call->agent, .req = call->req};
    e = query_int(call, "page", 1, INT32_MAX, 1, &q->page);
    if (!e)
        e = query_int(call, "limit", 1, 100, 10, &q->limit);
    if (!e)
        e = query_choice(call, "sort_by", sort_words, &q->by);
    if (!e)
        e = query_choice(call, "sort_order", order_words, &q->order);
    if (e) {
        free(q);
        reply_err(call->req, e);
        return;
    }
    q->container_id = str_dup(call->container->record.id);
    lane_submit(call->agent->read_lane, read_rows, q, answer);
}
