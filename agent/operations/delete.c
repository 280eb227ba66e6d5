/* SPDX-License-Identifier: Apache-2.0 */
/* Delete: unreachable and gone from disk; the row goes last, so that a crash repeats the rest. */
#include "agent/operations/steps.h"

#include "agent/containers/share.h"
#include "agent/events/event.h"
#include "agent/transfer/peer.h"

static void gone(struct operation *op, struct store_tx *tx)
{
    event_add(op->agent, tx, "container.deleted", op->container,
              json_pack("{s:s, s:s, s:s, s:s}", "name", op->container->record.name, "from_status",
                        container_status_words[op->container->record.status], "operation_id", op->id, "triggered_by",
                        op->triggered_by));
    peer_forget_copy(op->agent, op->container);
    shares_container_gone(op->agent, tx, op->container);
    store_tx_add(tx, STORE_CONTAINER_DELETE, json_pack("[s]", op->container->record.id));
}

static const struct op_step steps[] = {
    {0, "network", step_net_down, NULL},
    {0, "destroy", step_destroy, NULL},
};

const struct op_kind op_delete = {
    .name = "delete",
    .steps = steps,
    .step_count = ARRAY_LEN(steps),
    .recovery = OP_REDO,
    .status_during = CONTAINER_DELETING,
    .succeed = gone,
    .fail = outcome_failed,
    .removes_container = true,
};
