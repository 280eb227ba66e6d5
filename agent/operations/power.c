/* SPDX-License-Identifier: Apache-2.0 */
/* Start, stop, force-stop, restart, pause, resume, and settle: what became of a container whose init has ended. */
#include "agent/containers/watch.h"
#include "agent/operations/steps.h"
#include "base/clock.h"

static void freeze(struct operation *op)
{
    step_job(op, JOB_FREEZE, NULL);
}

static void thaw(struct operation *op)
{
    step_job(op, JOB_THAW, NULL);
}

static void paused(struct operation *op, struct store_tx *tx)
{
    (void)tx;
    op->container->record.status = CONTAINER_PAUSED;
}

static const struct op_step start_steps[] = {
    {0, "network", step_net_up, step_net_down},
    {1, "start", step_start, step_kill},
    {2, "open", step_net_open, NULL},
};

static const struct op_step stop_steps[] = {
    {0, "stop", step_stop, NULL},
    {1, "network", step_net_down, NULL},
};

static const struct op_step force_stop_steps[] = {
    {0, "kill", step_kill, NULL},
    {0, "network", step_net_down, NULL}, /* a veth goes whole, wherever its other end is */
};

enum { RESTART_NETWORK = 1 };
static const struct op_step restart_steps[] = {
    {0, "stop", step_stop, NULL},
    [RESTART_NETWORK] = {1, "network", step_net_up, step_net_down},
    {2, "start", step_start, step_kill},
    {3, "open", step_net_open, NULL},
};

static const struct op_step pause_steps[] = {{0, "freeze", freeze, thaw}};
static const struct op_step resume_steps[] = {{0, "thaw", thaw, NULL}};

/* A stop that did not come to its end leaves a container that runs, or is settled: nothing more was begun. */
static void restart_failed(struct operation *op, struct store_tx *tx)
{
    (op->begun[RESTART_NETWORK] ? outcome_stopped : outcome_as_before)(op, tx);
}

#define KIND(ident, name_, steps_, succeed_, fail_, ...)                                                               \
    const struct op_kind ident = {.name = (name_),                                                                     \
                                  .steps = (steps_),                                                                   \
                                  .step_count = ARRAY_LEN(steps_),                                                     \
                                  .recovery = OP_REDO,                                                                 \
                                  .status_during = -1,                                                                 \
                                  .succeed = (succeed_),                                                               \
                                  .fail = (fail_),                                                                     \
                                  __VA_ARGS__}

KIND(op_start, "start", start_steps, outcome_running, outcome_as_before);
KIND(op_stop, "stop", stop_steps, outcome_stopped, outcome_as_before);
KIND(op_force_stop, "force-stop", force_stop_steps, outcome_stopped, outcome_as_before);
KIND(op_restart, "restart", restart_steps, outcome_running, restart_failed, .restarts = true);
KIND(op_pause, "pause", pause_steps, paused, outcome_as_before);
KIND(op_resume, "resume", resume_steps, outcome_running, outcome_as_before);

/* Settle: an init has ended without an operation of ours. liblxc either started another one, after a reboot from the
 * inside, or the container is down and its network goes. */
static void on_settled(void *owner, struct err *e, json_t *result)
{
    struct operation *op = owner;

    if (!e) {
        if (json_is_true(json_object_get(result, "running"))) {
            watch_start(op->agent, op->container, json_integer_value(json_object_get(result, "init_pid")));
            op->container->record.started_at = clock_wall_ms();
            guest_mounts_lost(op->container);
        } else {
            watch_stop(op->container);
        }
    }
    json_decref(result);
    op_step_done(op, e);
}

static void settle(struct operation *op)
{
    agent_job(op->agent, JOB_SETTLE, op->container->record.slot, NULL, 0, op, on_settled);
}

static void settle_net(struct operation *op)
{
    if (op->container->init_pid)
        step_nothing(op);
    else
        step_net_down(op);
}

static void settled(struct operation *op, struct store_tx *tx)
{
    if (op->container->init_pid)
        return;
    outcome_stopped(op, tx);
    op->container->record.wanted_running = false;
}

static const struct op_step settle_steps[] = {{0, "settle", settle, NULL}, {1, "network", settle_net, NULL}};
KIND(op_settle, "settle", settle_steps, settled, outcome_stopped);
