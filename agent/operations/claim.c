/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A claim: a spare container becomes the one that a create asks for. One transaction removes the spare one's row and
 * writes the new one's with the intent, so there is never a moment in which a slot is nobody's or two creates have it.
 * A claim that fails, or that a crash interrupts, has left something of two containers: then the slot is cleaned and
 * the container made as without a pool. Arguments: "machine_id", which the spare one had.
 */
#include "agent/kits/upgrade.h"
#include "agent/kits/watch.h"
#include "agent/operations/steps.h"
#include "agent/stats/runtime.h"
#include "agent/warm/warm.h"
#include "base/clock.h"

enum { PATIENCE_MS = 5000 };

/* What waited for a start is there. */
static void note_files(struct operation *op)
{
    struct container *c = op->container;
    autojson brought = json_pack("{s:b}", "ssh_written", guest_is_pending(c, GUEST_SSH_KEY));

    if (guest_is_pending(c, GUEST_ENVIRONMENT))
        json_object_set_new(brought, "environment_error", json_null());
    if (guest_is_pending(c, GUEST_SSH_KEY) || guest_is_pending(c, GUEST_ENVIRONMENT))
        guest_started(op->agent, c, op->guest_revisions, brought);
}

static void on_claimed(void *owner, struct err *e, json_t *result)
{
    struct operation *op = owner;

    if (!e)
        e = upgrade_unhealthy(json_object_get(result, "services"));
    if (!e) {
        json_object_set_new(result, "begun_ms", json_integer((json_int_t)op->stage_us / 1000));
        note_files(op);
    }
    warm_claimed(op->agent, op->container, e);
    json_decref(op->result);
    op->result = result;
    op_step_done(op, e);
}

static void claimed(struct operation *op, struct store_tx *tx)
{
    json_t *services = json_object_get(op->result, "services");

    outcome_running(op, tx);
    if (json_array_size(services) > 0)
        kit_watch_take(op->agent, tx, op->container, services,
                       json_integer_value(json_object_get(op->result, "begun_ms")));
}

static void step_claim(struct operation *op)
{
    struct container *c = op->container;
    autojson seed = seed_of(op->agent, c);
    const struct job_claim args = {
        .seed = seed, .machine_id = (char *)(uintptr_t)op_arg(op, "machine_id"), .timeout_ms = PATIENCE_MS};

    json_decref(guest_start_files(c, op->guest_revisions)); /* the claim writes all of them */
    kit_watch_begin(op->agent, c);
    agent_wait_job(op->agent, JOB_CLAIM, c->record.slot, &args, PATIENCE_MS, op, on_claimed);
}

static const struct op_step steps[] = {
    {0, "identity", step_claim, NULL},
    {1, "open", step_net_open, NULL},
};

const struct op_kind op_claim = {
    .name = "claim",
    .steps = steps,
    .step_count = ARRAY_LEN(steps),
    .recovery = OP_REDO,
    .status_during = CONTAINER_CLAIMING,
    .succeed = claimed,
    .fail = outcome_failed,
    .makes_container = true,
    .otherwise = &op_create,
};

static void swap_records(struct container *a, struct container *b)
{
    const struct container_record r = a->record;

    a->record = b->record;
    b->record = r;
}

struct operation *claim_new(struct agent *a, struct container *spare, struct container *c, struct store_tx *tx)
{
    struct operation *op;

    c->record.slot = spare->record.slot;
    c->record.base = spare->record.base;
    c->record.started_at = clock_wall_ms();
    c->record.kits_linked = true;
    runtime_forget(spare); /* what was seen of it, under the name it had */
    kit_watch_forget(spare);
    swap_records(spare, c);
    op = operation_new(a, &op_claim, spare, json_pack("{s:s}", "machine_id", c->record.machine_id), "user");
    op->owner = c;
    store_tx_add(tx, STORE_CONTAINER_DELETE, json_pack("[s]", c->record.id));
    return op;
}

void claim_over(struct operation *op)
{
    struct container *kept = op->owner;

    if (!kept)
        return;
    if (op->kind == &op_claim && op->stage < 0) {
        swap_records(op->container, kept);
        op->container->spare_failed = true;
    }
    container_free(kept);
    op->owner = NULL;
}
