/* SPDX-License-Identifier: Apache-2.0 */
/* Snapshot, its removal, and restore: the root is swapped for a copy of the snapshot while nothing runs. */
#include "agent/events/event.h"
#include "agent/operations/steps.h"
#include "base/clock.h"
#include "base/log.h"

static struct job_snapshot name_of(const struct operation *op)
{
    return (struct job_snapshot){.name = (char *)(uintptr_t)op_arg(op, "name")};
}

static char *newest(const struct container *c)
{
    const struct snapshot *s = NULL;

    for (size_t i = 0; i < c->snapshot_count; i++)
        if (!c->snapshots[i]->missing && (!s || c->snapshots[i]->created_at > s->created_at))
            s = c->snapshots[i];
    return s ? s->name : NULL;
}

/* A paused one stays as it is. */
static struct job_snapshot held_of(const struct operation *op)
{
    struct job_snapshot args = name_of(op);

    args.previous = newest(op->container);
    args.hold = op->container->record.status == CONTAINER_RUNNING;
    return args;
}

static void make(struct operation *op)
{
    const struct job_snapshot args = held_of(op);

    step_job(op, JOB_SNAPSHOT_CREATE, &args);
}

static void unmake(struct operation *op)
{
    const struct job_snapshot args = held_of(op);

    step_job(op, JOB_SNAPSHOT_DELETE, &args);
}

static void drop(struct operation *op)
{
    const struct job_snapshot args = name_of(op);

    step_job(op, JOB_SNAPSHOT_DELETE, &args);
}

static void swap(struct operation *op)
{
    const struct job_snapshot args = name_of(op);

    guest_files_lost(op->container); /* the start writes those that belong to the container */
    step_job(op, JOB_SNAPSHOT_RESTORE, &args);
}

static void tidy(struct operation *op)
{
    step_job(op, JOB_TIDY, NULL);
}

static void tell(struct operation *op, struct store_tx *tx, const char *type, const char *alias)
{
    event_add(op->agent, tx, type, op->container,
              json_pack("{s:s, s:s?, s:s, s:s}", "snapshot_name", op_arg(op, "name"), "alias", alias, "operation_id",
                        op->id, "triggered_by", op->triggered_by));
}

static void made(struct operation *op, struct store_tx *tx)
{
    struct snapshot *s = mem_new(struct snapshot);
    const json_t *size = json_object_get(op->result, "size_bytes"); /* null: too many files to count in time */

    *s = (struct snapshot){.created_at = json_integer_value(json_object_get(op->args, "created_at")),
                           .expires_at = json_integer_value(json_object_get(op->args, "expires_at")),
                           .size = json_is_integer(size) ? json_integer_value(size) : -1};
    s->name = strdup(op_arg(op, "name"));
    s->alias = op_arg(op, "alias") ? strdup(op_arg(op, "alias")) : NULL;
    if (json_is_false(json_object_get(op->result, "held")))
        log_warning(&(struct log_ctx){.container = op->container->record.id},
                    "it could not be held still: the subvolumes of the snapshot %s are some milliseconds apart",
                    s->name);
    container_add_snapshot(op->container, s);
    record_put_snapshot(tx, op->container, s);
    tell(op, tx, "container.snapshot.created", s->alias);
}

static void dropped(struct operation *op, struct store_tx *tx)
{
    struct snapshot *s = container_find_snapshot(op->container, op_arg(op, "name"));

    store_tx_add(tx, STORE_SNAPSHOT_DELETE, json_pack("[s, s]", op->container->record.id, op_arg(op, "name")));
    tell(op, tx, "container.snapshot.deleted", s ? s->alias : NULL);
    if (s)
        container_drop_snapshot(op->container, s);
}

static void restored(struct operation *op, struct store_tx *tx)
{
    struct container_record *r = &op->container->record;
    struct snapshot *s = container_find_snapshot(op->container, op_arg(op, "name"));

    outcome_running(op, tx);
    tell(op, tx, "container.snapshot.restored", s ? s->alias : NULL);
    if (!s)
        return;
    s->last_used_at = clock_wall_ms();
    free(r->last_used_snapshot);
    r->last_used_snapshot = strdup(s->name);
    record_put_snapshot(tx, op->container, s);
}

static const struct op_step snapshot_steps[] = {{0, "snapshot", make, unmake}};

const struct op_kind op_snapshot = {
    .name = "snapshot",
    .steps = snapshot_steps,
    .step_count = ARRAY_LEN(snapshot_steps),
    .recovery = OP_UNDO,
    .status_during = -1,
    .succeed = made,
    .fail = outcome_as_before,
};

static const struct op_step snapshot_delete_steps[] = {{0, "delete", drop, NULL}};

const struct op_kind op_snapshot_delete = {
    .name = "snapshot-delete",
    .steps = snapshot_delete_steps,
    .step_count = ARRAY_LEN(snapshot_delete_steps),
    .recovery = OP_REDO,
    .status_during = -1,
    .succeed = dropped,
    .fail = outcome_as_before,
};

/* Removing a veth takes its time: "unlink" goes beside the kill, not after it. */
static const struct op_step restore_steps[] = {
    {0, "stop", step_kill, NULL},
    {0, "unlink", step_net_down, NULL},
    {1, "swap", swap, tidy},
    {1, "network", step_net_up, step_net_down},
    {2, "start", step_start, step_kill},
    {3, "open", step_net_open, NULL},
};

const struct op_kind op_restore = {
    .name = "restore",
    .steps = restore_steps,
    .step_count = ARRAY_LEN(restore_steps),
    .recovery = OP_REDO,
    .status_during = -1,
    .succeed = restored,
    .replaces_root = true,
    .fail = outcome_stopped,
    .restarts = true,
};
