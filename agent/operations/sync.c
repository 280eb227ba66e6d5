/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sync: a copy gets the present root file system of its source and keeps its own identity, addresses, environment, ssh
 * key, firewall and snapshots. It is down from "stop" to "start"; one that was stopped stays stopped.
 */
#include "agent/containers/watch.h"
#include "agent/operations/steps.h"
#include "agent/transfer/peer.h"

static bool was_running(const struct operation *op)
{
    return json_is_true(json_object_get(op->args, "running"));
}

static void make(struct operation *op)
{
    autojson seed = NULL;
    struct job_sync args = {0};

    if (op_arg(op, "server")) {
        peer_fetch(op, JOB_PEER_SYNC);
        return;
    }
    seed = seed_of(op->agent, op->container);
    args = (struct job_sync){.source_slot = op->source->record.slot, .seed = seed};
    step_job(op, JOB_SYNC_MAKE, &args);
}

static void tidy(struct operation *op)
{
    step_job(op, JOB_TIDY, NULL);
}

static void swap(struct operation *op)
{
    guest_files_lost(op->container); /* the seed may be older than what is recorded by now */
    step_job(op, JOB_SYNC_SWAP, NULL);
}

static void net(struct operation *op)
{
    (was_running(op) ? step_net_up : step_nothing)(op);
}

static void start(struct operation *op)
{
    (was_running(op) ? step_start : step_nothing)(op);
}

static void open_up(struct operation *op)
{
    (was_running(op) ? step_net_open : step_nothing)(op);
}

static void synced(struct operation *op, struct store_tx *tx)
{
    (was_running(op) ? outcome_running : outcome_stopped)(op, tx);
}

/* What failed before the stop has changed nothing. */
static void failed(struct operation *op, struct store_tx *tx)
{
    if (op->container->init_pid)
        outcome_running(op, tx);
    else
        outcome_stopped(op, tx);
}

static const struct op_step steps[] = {
    {0, "rootfs", make, tidy},  {1, "stop", step_kill, NULL},       {1, "unlink", step_net_down, NULL},
    {2, "swap", swap, tidy},    {2, "network", net, step_net_down}, {3, "start", start, step_kill},
    {4, "open", open_up, NULL},
};

const struct op_kind op_sync = {
    .name = "sync",
    .steps = steps,
    .step_count = ARRAY_LEN(steps),
    .recovery = OP_REDO,
    .status_during = CONTAINER_COPYING,
    .replaces_root = true,
    .succeed = synced,
    .fail = failed,
};
