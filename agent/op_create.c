/* SPDX-License-Identifier: Apache-2.0 */
/* Create and copy: both end in a running container, or in one that is marked failed and holds nothing. */
#include "agent/peer.h"
#include "agent/steps.h"
#include "base/clock.h"

/* The copy's snapshots were copied with it; their rows follow the disk. */
static void copied(struct operation *op, struct store_tx *tx)
{
    struct container *c = op->container;

    outcome_running(op, tx);
    if (op_arg(op, "server"))
        peer_copied(op, tx);
    if (op_arg(op, "server") || op_arg(op, "snapshot"))
        return;
    for (size_t i = 0; op->source && i < op->source->snapshot_count; i++) {
        autojson j = json_table_save(&snapshot_table, op->source->snapshots[i]);
        struct snapshot *s = mem_new(struct snapshot);

        err_ignore(json_table_load(&snapshot_table, j, s, NULL));
        container_add_snapshot(c, s);
        record_put_snapshot(tx, c, s);
    }
}

static const struct op_step steps[] = {
    {0, "clean", step_clean, NULL},
    {1, "rootfs", step_rootfs, step_destroy},
    {1, "network", step_net_up, step_net_down},
    {2, "start", step_start, step_kill},
    {3, "open", step_net_open, NULL},
};

const struct op_kind op_create = {
    .name = "create",
    .steps = steps,
    .step_count = ARRAY_LEN(steps),
    .recovery = OP_REDO,
    .status_during = CONTAINER_CREATING,
    .succeed = outcome_running,
    .fail = outcome_failed,
    .makes_container = true,
};

const struct op_kind op_copy = {
    .name = "copy",
    .steps = steps,
    .step_count = ARRAY_LEN(steps),
    .recovery = OP_REDO,
    .status_during = CONTAINER_COPYING,
    .succeed = copied,
    .fail = outcome_failed,
    .makes_container = true,
};
