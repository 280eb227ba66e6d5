/* SPDX-License-Identifier: Apache-2.0 */
/* The pool: its room, what its containers use of it, what waits to be reclaimed, the device's errors; and growing it.
 */
#include "agent/api/api.h"
#include "agent/stats/usage.h"
#include "agent/storage/reclaim.h"
#include "agent/storage/scrub.h"
#include "agent/storage/space.h"
#include "base/str.h"

struct question {
    struct agent *agent;
    struct http_request *req;
};

static json_t *containers(const struct agent *a, const json_t *usage)
{
    json_t *list = json_array();

    for (size_t i = 0; i < a->container_count; i++) {
        const struct container *c = a->containers[i];
        const json_t *used = usage_of_slot(usage, c->record.slot);
        const json_t *disk = json_object_get(used, "disk"), *deleted = json_object_get(used, "deleted");
        int64_t bytes = 0;

        if (c->record.spare)
            continue;
        for (size_t k = 0; k < c->snapshot_count; k++)
            bytes += MAX(c->snapshots[k]->size, (int64_t)0);
        json_array_append_new(list,
                              json_pack("{s:s, s:s, s:O?, s:I, s:I, s:O?}", "container_id", c->record.id, "name",
                                        c->record.name, "disk_bytes", disk, "snapshots", (json_int_t)c->snapshot_count,
                                        "snapshot_bytes", (json_int_t)bytes, "deleted_subvolumes", deleted));
    }
    return list;
}

static json_t *reclaim(const struct agent *a, const json_t *pool)
{
    const json_t *seen = json_object_get(pool, "reclaim"), *oldest = json_object_get(seen, "oldest_ms");
    char time[STR_TIME_SIZE];
    int64_t total;
    json_t *j;

    if (!seen)
        return json_null();
    if (json_is_integer(oldest))
        str_time(json_integer_value(oldest), time);
    j = json_copy((json_t *)(uintptr_t)seen);
    json_object_del(j, "oldest_ms");
    total = json_integer_value(json_object_get(j, "subvolumes"));
    json_object_set_new(j, "subvolumes", json_integer(MIN(reclaim_destroyed(a), total)));
    json_object_set_new(j, "of_containers", json_integer(MAX(total - reclaim_destroyed(a), INT64_C(0))));
    json_object_set_new(j, "oldest_at", json_is_integer(oldest) ? json_string(time) : json_null());
    json_object_set_new(j, "limit", json_integer(a->config->reclaim_max));
    return j;
}

static void on_usage(void *owner, const json_t *usage)
{
    struct question *q = owner;
    const struct agent *a = q->agent;
    const json_t *pool = json_object_get(usage, "pool");
    json_t *j = space_json(a);

    json_object_set_new(j, "path", json_string(a->config->pool));
    json_object_set_new(j, "loop_file", a->config->loop_file ? json_string(a->config->loop_file) : json_null());
    json_object_set_new(j, "reclaim", reclaim(a, pool));
    json_object_set_new(j, "device_errors", pool ? json_incref(json_object_get(pool, "device_errors")) : json_null());
    json_object_set_new(j, "scrub", scrub_json(a->scrub));
    json_object_set_new(j, "containers", containers(a, usage));
    reply_ok(q->req, 200, "Storage retrieved successfully", j);
    free(q);
}

void storage_get(struct api_call *call)
{
    struct question *q = mem_new(struct question);

    *q = (struct question){call->agent, call->req};
    usage_get(call->agent->usage, q, on_usage);
}

struct grow_body {
    int64_t size_bytes;
};
static const struct json_field grow_fields[] = {
    F_INT(struct grow_body, size_bytes, .required = true, .min = INT64_C(256) << 20, .max = INT64_C(1) << 60),
};
static JSON_TABLE(grow_table, NULL, grow_fields);

static void on_grown(void *owner, struct err *e, json_t *result)
{
    if (e && (e->code == ERR_INVALID || e->code == ERR_WRONG_STATE)) /* only the worker knows what size it has */
        reply_err(owner, e);
    else if (e)
        reply_host_err(owner, e);
    else
        reply_ok(owner, 200, "Storage grown successfully", json_incref(result));
    json_decref(result);
}

void storage_grow(struct api_call *call)
{
    const struct config *c = call->agent->config;
    struct grow_body b = {0};
    struct job_pool_open args = {.loop_file = c->loop_file};
    struct err *e = json_table_load(&grow_table, call->body, &b, NULL);

    if (!e && !c->loop_file)
        e = err_new(ERR_WRONG_STATE, "The pool is no file of noded's own: let its file system grow by its own tools");
    if (e) {
        reply_err(call->req, e);
        return;
    }
    args.loop_bytes = b.size_bytes;
    agent_job(call->agent, JOB_POOL_GROW, 0, &args, 0, call->req, on_grown);
}

enum { SCRUB_START, SCRUB_CANCEL };
struct scrub_body {
    int action;
};
static const char *const scrub_actions[] = {"start", "cancel", NULL};
static const struct json_field scrub_fields[] = {
    F_ENUM(struct scrub_body, action, scrub_actions, .required = true),
};
static JSON_TABLE(scrub_table, NULL, scrub_fields);

static void on_scrub(void *owner, struct err *e)
{
    struct question *q = owner;

    if (e)
        reply_err(q->req, e);
    else
        reply_ok(q->req, 200, "Scrub updated successfully", scrub_json(q->agent->scrub));
    free(q);
}

void storage_scrub(struct api_call *call)
{
    struct scrub *s = call->agent->scrub;
    struct question *q = mem_new(struct question);
    struct scrub_body b = {0};
    struct err *e = json_table_load(&scrub_table, call->body, &b, NULL);

    *q = (struct question){call->agent, call->req};
    if (!e)
        e = b.action == SCRUB_START ? scrub_begin(s, q, on_scrub) : scrub_cancel(s, q, on_scrub);
    if (!e)
        return;
    reply_err(call->req, e);
    free(q);
}
