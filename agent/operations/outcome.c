/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/operations/outcome.h"

#include <inttypes.h>

#include "agent/containers/project.h"
#include "agent/containers/share.h"
#include "agent/containers/watch.h"
#include "agent/events/event.h"
#include "agent/images/base.h"
#include "agent/kits/rollout.h"
#include "agent/kits/watch.h"
#include "agent/operations/takeover.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"

struct log_ctx op_ctx(const struct operation *op)
{
    return (struct log_ctx){.container = op->container ? op->container->record.id : NULL, .operation_id = op->id};
}

/* What had to wait for the end of an operation. */
static void after_operation(struct agent *a, struct container *c, bool new_root)
{
    share_mounts_after_operation(a, c, new_root);
    watch_after_operation(a, c);
    guest_retry(a, c);
}

/* Nothing of it is left. */
static void forget(struct agent *a, struct container *c)
{
    autofree char *project_id = str_dup(guest_ramdisk_project(c)), *image = str_dup(c->record.image_fingerprint);

    agent_remove(a, c);
    image_base_release(a, image);
    if (project_id)
        guest_drop_ramdisks(a, project_id);
}

void op_release(struct operation *op, struct err *e)
{
    struct container *c = op->container;
    struct agent *a = op->agent;

    a->operations--;
    if (op->source)
        op->source->copies--;
    c->op = NULL;
    c->committing = false;
    a->routes_revision++; /* the new status shows from here on */
    if (op->done)
        op->done(op, e);
    else if (e)
        err_free(e);
    if ((op->kind->removes_container && op->finished) ||
        (op->kind->makes_container && op->stage < 0 && !op->kind->otherwise))
        forget(a, c);
    else if (op->successor)
        operation_start_inherited(op->successor);
    else
        after_operation(a, c, op->kind->replaces_root);
    share_mounts_refresh(a);
    json_decref(op->args);
    json_decref(op->result);
    free(op);
    projects_after_operation(a);
    rollout_after_operation(a);
}

json_t *op_log_metadata(const struct operation *op)
{
    json_t *steps = json_object(), *j;
    int64_t ready_ms;

    for (size_t i = 0; i < op->kind->step_count; i++)
        if (op->begun[i])
            json_object_set_new(steps, op->kind->steps[i].name, json_real((double)op->step_us[i] / 1000.0));
    j = json_pack("{s:s, s:s, s:o, s:s?}", "command", operation_command(op), "operation_id", op->id, "steps_ms", steps,
                  "error", op->error ? err_message(op->error) : NULL);
    json_object_set(j, "split_us", json_object_get(op->result, "split_us"));
    if (op->kind->makes_container && kit_watch_is_ready(op->container, &ready_ms))
        json_object_set_new(j, "kits_ready_ms", json_integer((json_int_t)ready_ms));
    return j;
}

static void report(const struct operation *op, int64_t ms)
{
    struct log_ctx ctx = op_ctx(op);
    autojson meta = op_log_metadata(op);
    autofree char *steps = json_dumps(json_object_get(meta, "steps_ms"), JSON_COMPACT | JSON_REAL_PRECISION(3));

    if (op->error)
        log_warning(&ctx, "%s failed after %" PRId64 " ms: %s", op->kind->name, ms, err_message(op->error));
    else
        log_info(&ctx, "%s done in %" PRId64 " ms %s", op->kind->name, ms, steps ? steps : "");
}

static void on_result_committed(void *owner, struct err *e)
{
    struct operation *op = owner;
    struct log_ctx ctx = op_ctx(op);

    op->finished = !op->error;
    if (e && op->successor)
        takeover_refuse(op, err_new(ERR_UNAVAILABLE, "%s", err_message(e)));
    if (e)
        log_err(&ctx, LOG_LEVEL_ERR, e, "the result of an operation is not recorded; it is repeated at the next start");
    op_release(op, steal(&op->error));
}

/* The change of the status, if there is one. `from` is what the log saw last. */
static void log_change(struct operation *op, struct store_tx *tx, int from, int64_t ms)
{
    struct container *c = op->container;
    const char *before = container_status_words[from], *after = container_status_words[c->record.status];
    const char *stopped = container_status_words[CONTAINER_STOPPED];
    bool restarted = op->kind->restarts && !op->error && from == CONTAINER_RUNNING && from == c->record.status;
    int64_t down_ms = restarted ? op->step_us[0] / 1000 : 0; /* its first step is the stop */

    if (restarted)
        record_log(op->agent, tx, c, before, stopped, down_ms, op->triggered_by, op_log_metadata(op));
    if (restarted || from != c->record.status)
        record_log(op->agent, tx, c, restarted ? stopped : before, after, ms - down_ms, op->triggered_by,
                   op_log_metadata(op));
}

static void tell_end(struct operation *op, struct store_tx *tx, int64_t ms)
{
    const struct err *e = op->error;
    json_t *payload =
        json_pack("{s:s, s:s, s:s, s:I, s:s}", "operation_id", op->id, "operation", operation_command(op), "status",
                  e ? "failed" : "completed", "duration_ms", (json_int_t)ms, "triggered_by", op->triggered_by);

    if (e)
        json_object_set_new(
            payload, "error",
            json_pack("{s:s, s:s}", "code", e->reason ? e->reason : err_code_name(e->code), "message", err_message(e)));
    if (op->successor)
        json_object_set_new(payload, "taken_over_by", json_string(op->successor->id));
    event_add(op->agent, tx, e ? "container.operation.failed" : "container.operation.completed", op->container,
              payload);
}

void op_conclude(struct operation *op)
{
    struct container *c = op->container;
    int64_t ms = (clock_mono_us() - op->begun_us) / 1000;
    int before = c->record.status;
    struct store_tx *tx = store_tx_new();

    if (op->error)
        op->kind->fail(op, tx);
    else
        op->kind->succeed(op, tx);
    c->gone = op->kind->removes_container && !op->error;
    if (!op->kind->removes_container || op->error) {
        c->record.updated_at = clock_wall_ms();
        record_put(tx, c);
        log_change(op, tx, op->kind->status_during >= 0 ? before : op->from, ms);
    }
    tell_end(op, tx, ms);
    store_tx_add(tx, STORE_INTENT_DELETE, json_pack("[s]", op->id));
    report(op, ms);
    if (op->successor) /* in this transaction: at no time is there neither */
        operation_inherit(op->successor, tx);
    c->status_before = before;
    c->committing = true;
    agent_commit(op->agent, tx, op, on_result_committed);
}
