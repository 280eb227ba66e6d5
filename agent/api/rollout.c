/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/kits/rollout.h"
#include "agent/api/api.h"
#include "agent/kits/upgrade.h"
#include "base/str.h"

enum { PARALLEL = 2, PARALLEL_MAX = 16 };

enum { STOP, ROLL_BACK };
static const char *const on_failure_words[] = {[STOP] = "stop", [ROLL_BACK] = "rollback", NULL};

struct body {
    json_t *kits, *containers;
    char *project_id;
    bool rollback;
    int64_t parallel;
    int on_failure;
};
static const struct json_field body_fields[] = {
    F_JSON(struct body, kits, .nullable = true, .has_type = true, .type = JSON_ARRAY),
    F_JSON(struct body, containers, .nullable = true, .has_type = true, .type = JSON_ARRAY),
    F_STRING(struct body, project_id, .nullable = true, .valid = str_is_object_id, .rule = "must be 24 hex digits"),
    F_BOOL(struct body, rollback),
    F_INT(struct body, parallel, .min = 1, .max = PARALLEL_MAX),
    F_ENUM(struct body, on_failure, on_failure_words),
};
static JSON_TABLE(body_table, NULL, body_fields);

void rollout_get(struct api_call *call)
{
    json_t *report = rollout_report(call->agent);

    if (report)
        reply_ok(call->req, 200, "Rollout retrieved successfully", report);
    else
        reply_err(call->req, err_reason(err_new(ERR_NOT_FOUND, "There was no rollout yet"), "RESOURCE_NOT_FOUND"));
}

/* A list that no container could have is refused before anything begins. */
static struct err *check_kits(const struct agent *a, const struct container *c, const json_t *kits)
{
    autojson target = NULL;
    struct err *e = kits ? upgrade_target(a, c, kits, &target) : NULL;

    if (e && str_eq(e->reason, "KIT_IMAGE")) {
        err_free(e);
        e = NULL;
    }
    return e;
}

static struct err *named(const struct agent *a, const struct body *b, json_t *ids)
{
    const json_t *v;
    size_t i;

    json_array_foreach(b->containers, i, v)
    {
        const char *id = json_string_value(v);
        const struct container *c = id ? agent_find(a, id) : NULL;
        struct err *e =
            c ? check_kits(a, c, b->kits)
              : err_reason(err_at(err_new(ERR_NOT_FOUND, "Container not found"), "containers"), "CONTAINER_NOT_FOUND");

        if (e)
            return e;
        json_array_append(ids, (json_t *)(uintptr_t)v);
    }
    return NULL;
}

/* All that have kits, in the order in which they were made. */
static int by_age(const void *x, const void *y)
{
    const struct container *a = *(struct container *const *)x, *b = *(struct container *const *)y;

    return a->record.created_at != b->record.created_at ? (a->record.created_at < b->record.created_at ? -1 : 1)
                                                        : strcmp(a->record.id, b->record.id);
}

static struct err *all(const struct agent *a, const struct body *b, json_t *ids)
{
    autofree struct container **list = mem_new_array(struct container *, a->container_count + 1);
    struct err *e = NULL;
    size_t n = 0;

    for (size_t i = 0; i < a->container_count; i++)
        if (a->containers[i]->record.hoody_kit && !a->containers[i]->record.spare &&
            (!b->project_id || str_eq(b->project_id, a->containers[i]->record.project_id)))
            list[n++] = a->containers[i];
    qsort(list, n, sizeof(struct container *), by_age);
    for (size_t i = 0; i < n && !e; i++) {
        e = check_kits(a, list[i], b->kits);
        json_array_append_new(ids, json_string(list[i]->record.id));
    }
    return e;
}

struct question {
    struct agent *agent;
    struct http_request *req;
};

static struct question *question_new(const struct api_call *call)
{
    struct question *q = mem_new(struct question);

    *q = (struct question){call->agent, call->req};
    return q;
}

static void refuse(struct question *q, struct err *e)
{
    reply_err(q->req, e);
    free(q);
}

static void answer(struct question *q, struct err *e, int status, const char *message)
{
    if (e) {
        refuse(q, e);
        return;
    }
    reply_ok(q->req, status, message, rollout_report(q->agent));
    free(q);
}

static void on_begun(void *owner, struct err *e)
{
    answer(owner, e, 202, "Rollout started");
}

static void on_stopping(void *owner, struct err *e)
{
    answer(owner, e, 200, "Rollout stopped");
}

void rollout_begin(struct api_call *call)
{
    struct question *q = question_new(call);
    struct body b = {.parallel = PARALLEL};
    json_t *ids = json_array();
    struct err *e = json_table_load(&body_table, call->body, &b, NULL);

    if (!e && b.rollback && b.kits)
        e = err_field("rollback", "and kits exclude each other");
    if (!e && b.project_id && b.containers)
        e = err_field("project_id", "and containers exclude each other");
    if (!e)
        e = (b.containers ? named : all)(call->agent, &b, ids);
    if (e) {
        json_decref(ids);
    } else {
        const struct rollout_request r = {.kits = b.kits ? json_incref(b.kits) : NULL,
                                          .rollback = b.rollback,
                                          .undo = b.on_failure == ROLL_BACK,
                                          .parallel = b.parallel,
                                          .containers = ids};

        e = rollout_start(call->agent, &r, q, on_begun);
    }
    json_table_clear(&body_table, &b);
    if (e)
        refuse(q, e);
}

void rollout_end(struct api_call *call)
{
    struct question *q = question_new(call);
    struct err *e = rollout_stop(call->agent, q, on_stopping);

    if (e)
        refuse(q, e);
}
