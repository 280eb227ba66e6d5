/* SPDX-License-Identifier: Apache-2.0 */
/* Create and copy: both end in a running container, or in one that is marked failed and holds nothing. */
#include "agent/containers/snapshots.h"
#include "agent/images/base.h"
#include "agent/images/task.h"
#include "agent/operations/steps.h"
#include "base/str.h"

/* Rows for the snapshots that came with the disk, and no others: the source may have got more since. */
static void copied(struct operation *op, struct store_tx *tx)
{
    outcome_running(op, tx);
    snapshots_adopt(op->container, tx, json_object_get(op->args, "snapshots"),
                    json_object_get(op->result, "snapshots"));
}

static void on_image(void *owner, const struct err *e, const char *fingerprint)
{
    struct operation *op = owner;
    struct err *copy = e ? err_new(e->code, "%s", e->message) : NULL;

    if (!copy) {
        str_set(&op->container->record.image_fingerprint, fingerprint);
        op->container->record.base = image_base_choose(op->agent, image_find(op->agent, fingerprint));
    }
    op_step_done(op, copy);
}

/* What is not in the pool, or shall be renewed, comes from a remote. */
static void fetch_image(struct operation *op)
{
    const struct container_record *r = &op->container->record;
    bool refresh = json_is_true(json_object_get(op->args, "refresh"));

    if (op->source || !image_remotes_configured(op->agent) || (!refresh && image_find(op->agent, r->image_fingerprint)))
        op_step_done(op, NULL);
    else
        image_fetch_start(op->agent, r->image, true, op, on_image);
}

static const struct op_step steps[] = {
    {0, "clean", step_clean, NULL},
    {0, "image", fetch_image, NULL},
    {1, "rootfs", step_rootfs, step_destroy},
    {1, "network", step_net_up, step_net_down},
    {2, "start", step_start, step_kill},
    {3, "open", step_net_open, NULL},
    {4, "kits", step_kits, NULL},
    {5, "trim", step_trim, NULL},
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
