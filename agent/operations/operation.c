/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/operations/operation.h"

#include <assert.h>

#include "agent/operations/outcome.h"
#include "agent/operations/takeover.h"
#include "base/clock.h"
#include "base/failpoint.h"
#include "base/id.h"
#include "base/log.h"
#include "base/str.h"

static const struct op_kind *const kinds[] = {&op_create,   &op_copy,    &op_start,      &op_stop,
                                              &op_pause,    &op_resume,  &op_force_stop, &op_restart,
                                              &op_snapshot, &op_restore, &op_sync,       &op_snapshot_delete,
                                              &op_delete,   &op_settle,  &op_network,    &op_host,
                                              &op_kits,     &op_import,  &op_claim};

const struct op_kind *op_kind_find(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
        if (str_eq(kinds[i]->name, name))
            return kinds[i];
    return NULL;
}

struct err *op_failpoint(const struct operation *op, const char *step)
{
    char name[64];

    snprintf(name, sizeof(name), "op.%s.%s", op->kind->name, step);
    return failpoint(name);
}

struct operation *operation_new(struct agent *a, const struct op_kind *kind, struct container *c, json_t *args,
                                const char *triggered_by)
{
    struct operation *op = mem_new(struct operation);

    assert(kind->step_count <= OP_STEPS_MAX);
    id_operation(op->id);
    op->agent = a;
    op->kind = kind;
    op->container = c;
    op->args = args ? args : json_object();
    op->triggered_by = triggered_by;
    op->from = c->record.status;
    op->attempt = 1;
    return op;
}

const char *op_arg(const struct operation *op, const char *name)
{
    return json_string_value(json_object_get(op->args, name));
}

struct err *container_check_staying(const struct container *c)
{
    if (c->record.status != CONTAINER_DELETING)
        return NULL;
    return err_reason(err_new(ERR_BUSY, "The container is being deleted"), "container_finalizing");
}

struct err *container_check_unread(const struct container *c)
{
    return c->copies == 0 ? NULL : err_reason(err_new(ERR_BUSY, "The container is being copied"), "RESOURCE_IN_USE");
}

const char *operation_command(const struct operation *op)
{
    return op->kind->command ? op->kind->command : op->kind->name;
}

struct err *operation_check_free(const struct container *c, const char *what)
{
    autofree char *hint = NULL;

    if (!c->op)
        return NULL;
    hint = operation_hint(c->op);
    return err_reason(err_new(ERR_BUSY, "Cannot perform %s operation. The container is busy with: %s. %s", what,
                              operation_command(c->op), hint),
                      "CONTAINER_OPERATION_IN_PROGRESS");
}

static void run_stage(struct operation *op);

static void on_turned(void *owner, struct err *e)
{
    struct operation *op = owner;
    struct log_ctx ctx = op_ctx(op);

    /* The intent of before is on disk and leads here, too. */
    log_err(&ctx, LOG_LEVEL_WARNING, e, "it is not recorded that an operation goes another way");
    if (op->accepted)
        op->accepted(op);
    run_stage(op);
}

/* The other kind begins as one that is repeated: with a clean slot. */
static void turn(struct operation *op)
{
    struct container *c = op->container;
    const char *from = container_status_words[c->record.status];
    struct store_tx *tx = store_tx_new();
    struct log_ctx ctx = op_ctx(op);

    log_warning(&ctx, "%s failed: %s; %s instead", op->kind->name, err_message(op->error), op->kind->otherwise->name);
    err_free(steal(&op->error));
    op->kind = op->kind->otherwise;
    op->attempt = 2;
    op->step = 0;
    memset(op->begun, 0, sizeof(op->begun));
    c->record.status = op->kind->status_during;
    record_put(tx, c);
    record_log(op->agent, tx, c, from, container_status_words[c->record.status], -1, op->triggered_by,
               op_log_metadata(op));
    agent_commit(op->agent, tx, op, on_turned);
}

static void unwind_next(struct operation *op)
{
    while (op->step > 0) {
        const struct op_step *s = &op->kind->steps[--op->step];

        if (op->begun[op->step] && s->undo) {
            op->pending = 1;
            s->undo(op);
            return;
        }
    }
    op_conclude(op);
}

static void stage_over(struct operation *op)
{
    if (op->error && op->kind->otherwise) {
        turn(op);
        return;
    }
    if (op->error && !op->unwinding) {
        op->unwinding = true;
        op->step = op->kind->step_count;
    }
    if (op->unwinding)
        unwind_next(op);
    else
        run_stage(op);
}

/* Begins all steps of the next stage. `pending` has one more while they are begun, so that none ends the stage early.
 */
static void run_stage(struct operation *op)
{
    const struct op_step *steps = op->kind->steps;
    size_t first = op->step;

    if (first == op->kind->step_count) {
        op->error = op_failpoint(op, "commit");
        if (op->error)
            stage_over(op);
        else
            op_conclude(op);
        return;
    }
    op->stage = steps[first].stage;
    op->stage_us = clock_mono_us();
    op->pending = 1;
    for (; op->step < op->kind->step_count && steps[op->step].stage == op->stage; op->step++) {
        struct err *e = op_failpoint(op, steps[op->step].name);

        if (e) {
            op->error = err_first(op->error, e);
            continue;
        }
        op->begun[op->step] = true;
        op->pending++;
        steps[op->step].run(op);
    }
    op_step_done(op, NULL);
}

void op_step_done(struct operation *op, struct err *e)
{
    struct log_ctx ctx = op_ctx(op);

    assert(op->pending > 0);
    if (op->unwinding) {
        if (e)
            log_err(&ctx, LOG_LEVEL_ERR, e, "undo of a step failed; the next start repairs it");
    } else {
        op->error = err_first(op->error, e);
    }
    if (--op->pending > 0)
        return;
    for (size_t i = 0; i < op->kind->step_count; i++)
        if (!op->unwinding && op->begun[i] && op->kind->steps[i].stage == op->stage)
            op->step_us[i] = clock_mono_us() - op->stage_us;
    stage_over(op);
}

static void on_intent_committed(void *owner, struct err *e)
{
    struct operation *op = owner;

    if (!e) {
        e = op_failpoint(op, "intent");
        if (e && op->kind->otherwise) {
            op->error = e;
            turn(op);
            return;
        }
    }
    if (e) {
        op->container->record.status = op->from;
        op->stage = -1;
        op_release(op, e);
        return;
    }
    if (op->accepted && !op->kind->otherwise)
        op->accepted(op);
    run_stage(op);
}

static void take(struct operation *op)
{
    struct container *c = op->container;

    assert(!c->op);
    c->op = op;
    op->agent->operations++;
    if (op->source)
        op->source->copies++;
    op->begun_us = clock_mono_us();
    op->begun_at = clock_wall_ms();
    if (op->kind->status_during >= 0)
        c->record.status = op->kind->status_during;
}

static void add_intent(const struct operation *op, struct store_tx *tx)
{
    autofree char *args = json_dumps(op->args, JSON_COMPACT);

    store_tx_add(tx, STORE_INTENT_PUT,
                 json_pack("[s, s, s, i, s, I]", op->id, op->kind->name, op->container->record.id, op->attempt, args,
                           (json_int_t)clock_wall_ms()));
}

static void add_begin(struct operation *op, struct store_tx *tx)
{
    record_put(tx, op->container); /* before the log, which refers to it */
    if (op->kind->status_during >= 0 && (op->from != op->kind->status_during || op->kind->makes_container))
        record_log(op->agent, tx, op->container, op->kind->makes_container ? NULL : container_status_words[op->from],
                   container_status_words[op->container->record.status], -1, op->triggered_by, op_log_metadata(op));
    add_intent(op, tx);
}

void operation_start(struct operation *op, struct store_tx *tx)
{
    take(op);
    if (!tx)
        tx = store_tx_new();
    add_begin(op, tx);
    agent_commit(op->agent, tx, op, on_intent_committed);
}

void operation_inherit(struct operation *op, struct store_tx *tx)
{
    op->from = op->container->record.status;
    if (op->kind->status_during >= 0)
        op->container->record.status = op->kind->status_during;
    add_begin(op, tx);
}

void operation_start_inherited(struct operation *op)
{
    take(op);
    on_intent_committed(op, NULL);
}

void operation_recover(struct operation *op, int attempts)
{
    struct store_tx *tx;

    op->attempt = attempts + 1;
    if (op->kind->otherwise)
        op->kind = op->kind->otherwise;
    take(op);
    if (op->kind->recovery == OP_UNDO || op->attempt > OP_ATTEMPTS_MAX) {
        op->error = err_new(ERR_CANCELLED, "interrupted by a restart of the node agent");
        op->unwinding = true;
        op->step = op->kind->step_count;
        for (size_t i = 0; i < op->step; i++)
            op->begun[i] = true;
        unwind_next(op);
        return;
    }
    tx = store_tx_new();
    add_intent(op, tx);
    agent_commit(op->agent, tx, op, on_intent_committed);
}
