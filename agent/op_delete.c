/* SPDX-License-Identifier: Apache-2.0 */
/* Delete: unreachable and gone from disk; the row goes last, so that a crash repeats the rest. */
#include "agent/steps.h"

static void gone(struct operation *op, struct store_tx *tx)
{
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
