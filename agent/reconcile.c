/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/reconcile.h"

#include "agent/containers/share.h"
#include "agent/containers/watch.h"
#include "agent/events/event.h"
#include "agent/operations/operation.h"
#include "agent/recovery/recovery.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"

static void on_repaired(void *owner, struct err *e, json_t *result)
{
    (void)owner;
    json_decref(result);
    log_err(NULL, LOG_LEVEL_WARNING, e, "a leftover could not be removed; the next start tries again");
}

static void on_recorded(void *owner, struct err *e)
{
    (void)owner;
    log_err(NULL, LOG_LEVEL_ERR, e, "a corrected status is not recorded");
}

static bool has_intent(const json_t *intents, const char *id)
{
    json_t *row;
    size_t i;

    json_array_foreach((json_t *)(uintptr_t)intents, i,
                       row) if (str_eq(json_string_value(json_object_get(row, "container_id")), id)) return true;
    return false;
}

static const json_t *slot_of(const json_t *inventory, int64_t slot)
{
    json_t *entry;
    size_t i;

    json_array_foreach(json_object_get(inventory, "slots"), i,
                       entry) if (json_integer_value(json_object_get(entry, "slot")) == slot) return entry;
    return NULL;
}

static void correct(struct agent *a, struct container *c, enum container_status to)
{
    const struct log_ctx ctx = {.container = c->record.id};
    struct store_tx *tx = store_tx_new();
    const char *from = container_status_word(c);

    if (c->record.status != (int)to) {
        log_notice(&ctx, "found %s, recorded as %s", container_status_words[to], from);
        c->record.status = (int)to;
        record_log(a, tx, c, from, container_status_word(c), -1, "system", json_pack("{s:s}", "command", "reconcile"));
    }
    record_put(tx, c);
    agent_commit(a, tx, NULL, on_recorded);
}

/* The row comes from the record beside the snapshot, or is made up of the name. */
static void adopt_snapshot(struct agent *a, struct container *c, struct store_tx *tx, const json_t *records,
                           const char *name)
{
    const struct log_ctx ctx = {.container = c->record.id};
    struct snapshot *s = mem_new(struct snapshot);
    json_t *entry;
    size_t i;

    json_array_foreach((json_t *)(uintptr_t)records, i, entry)
    {
        const json_t *row = json_object_get(entry, "row");
        autojson body = NULL;

        if (json_integer_value(json_object_get(entry, "statement")) != STORE_SNAPSHOT_PUT ||
            !str_eq(json_string_value(json_array_get(row, 1)), name))
            continue;
        body = json_loads(json_string_value(json_array_get(row, 2)), 0, NULL);
        err_ignore(json_table_load(&snapshot_table, body, s, NULL)); /* cleared then: it is made up */
    }
    if (!s->name) {
        s->name = str_dup(name);
        s->created_at = clock_wall_ms();
        s->size = -1;
    }
    log_warning(&ctx, "the snapshot '%s' is in the pool and has no row: it gets one", name);
    container_add_snapshot(c, s);
    record_put_snapshot(tx, c, s);
    event_add(a, tx, "container.snapshot.created", c,
              json_pack("{s:s, s:s?, s:s}", "snapshot_name", s->name, "alias", s->alias, "triggered_by", "system"));
}

/* Snapshots on disk and in the database should be the same set; an unfinished operation of the container settles its
 * own. Nothing is deleted for lack of the other: a snapshot without a row gets one, a row without a snapshot stays and
 * is told as missing. */
static void check_snapshots(struct agent *a, struct container *c, const json_t *entry)
{
    const struct log_ctx ctx = {.container = c->record.id};
    const json_t *found = json_object_get(entry, "snapshots");
    struct store_tx *tx = store_tx_new();
    autojson records = NULL;
    size_t i, damaged;
    json_t *name;

    json_array_foreach((json_t *)(uintptr_t)found, i, name)
    {
        if (container_find_snapshot(c, json_string_value(name)))
            continue;
        if (!records)
            records = mirror_read(a->config->pool, c->record.slot, &damaged);
        adopt_snapshot(a, c, tx, records, json_string_value(name));
    }
    for (size_t k = 0; k < c->snapshot_count; k++) {
        struct snapshot *s = c->snapshots[k];

        s->missing = !json_has_string(found, s->name);
        if (s->missing)
            log_warning(&ctx,
                        "the snapshot '%s' is not in the pool: it cannot be restored, and stays listed until it is "
                        "deleted",
                        s->name);
    }
    agent_commit(a, tx, NULL, on_recorded);
}

/* A container whose disk is not there cannot start; its row stays until somebody deletes it. */
static bool lost_its_disk(const struct container *c, const json_t *entry)
{
    return !json_is_true(json_object_get(entry, "rootfs")) &&
           (c->record.status == CONTAINER_STOPPED || c->record.status == CONTAINER_RUNNING ||
            c->record.status == CONTAINER_PAUSED);
}

static void adopt(struct agent *a, struct container *c, const json_t *entry, bool busy, bool rebooted)
{
    const struct log_ctx ctx = {.container = c->record.id};
    int64_t init_pid = json_integer_value(json_object_get(entry, "init_pid"));

    if (init_pid > 0)
        watch_start(a, c, init_pid);
    share_mounts_adopt(a, c, json_is_true(json_object_get(entry, "shares")));
    if (busy)
        return; /* its operation goes on from here */
    if (init_pid > 0) {
        correct(a, c, json_is_true(json_object_get(entry, "frozen")) ? CONTAINER_PAUSED : CONTAINER_RUNNING);
    } else if (rebooted && container_is_up(c)) {
        c->record.started_at = 0;
        correct(a, c, CONTAINER_STOPPED);
    } else if (lost_its_disk(c, entry)) {
        log_error(&ctx,
                  "the container's disk is not in the pool: the container is failed, and stays listed until it is "
                  "deleted");
        c->record.started_at = 0;
        c->record.disk_lost = true;
        correct(a, c, CONTAINER_FAILED);
    } else if (c->record.disk_lost && json_is_true(json_object_get(entry, "rootfs"))) {
        log_notice(&ctx, "the container's disk is in the pool again");
        c->record.disk_lost = false;
        correct(a, c, CONTAINER_STOPPED);
    } else if (c->record.status == CONTAINER_CREATING || c->record.status == CONTAINER_COPYING ||
               c->record.status == CONTAINER_DELETING || c->record.status == CONTAINER_CLAIMING) {
        correct(a, c, CONTAINER_FAILED);
    }
    if (json_is_true(json_object_get(entry, "leftovers")))
        agent_job(a, JOB_TIDY, c->record.slot, NULL, 0, NULL, on_repaired);
    check_snapshots(a, c, entry);
}

void reconcile_adopt(struct agent *a, const json_t *inventory, const json_t *intents, bool rebooted)
{
    json_t *entry;
    size_t i;

    for (size_t k = 0; k < a->container_count; k++) {
        struct container *c = a->containers[k];

        adopt(a, c, slot_of(inventory, c->record.slot), has_intent(intents, c->record.id), rebooted);
    }
    json_array_foreach(json_object_get(inventory, "slots"), i, entry)
    {
        int64_t slot = json_integer_value(json_object_get(entry, "slot"));

        if (agent_find_by_slot(a, slot))
            continue;
        if (quarantine_has(a, slot)) {
            log_warning(NULL,
                        "slot %lld has a disk, snapshots or processes and belongs to no container: it is left alone; "
                        "run \"nodectl recover\"",
                        (long long)slot);
            continue;
        }
        log_notice(NULL, "slot %lld has no disk and belongs to no container: what is left of it is removed",
                   (long long)slot);
        agent_job(a, JOB_DESTROY, slot, NULL, 0, NULL, on_repaired);
    }
}

static void recover(struct agent *a, const json_t *row)
{
    struct container *c = agent_find_any(a, json_string_value(json_object_get(row, "container_id")));
    const struct op_kind *kind = op_kind_find(json_string_value(json_object_get(row, "kind")));
    int attempts = (int)json_integer_value(json_object_get(row, "attempts"));
    struct operation *op;

    if (!c || !kind || c->op) {
        struct store_tx *tx = store_tx_new();

        store_tx_add(tx, STORE_INTENT_DELETE, json_pack("[O]", json_object_get(row, "id")));
        agent_commit(a, tx, NULL, on_recorded);
        return;
    }
    op = operation_new(a, kind, c, json_loads(json_string_value(json_object_get(row, "args")), 0, NULL), "recovery");
    snprintf(op->id, sizeof(op->id), "%s", json_string_value(json_object_get(row, "id")));
    log_notice(NULL, "operation '%s' of container '%s' was interrupted: %s it", kind->name, c->record.id,
               kind->recovery == OP_REDO ? "repeating" : "unwinding");
    if (op_arg(op, "source")) {
        op->source = agent_find(a, op_arg(op, "source"));
        if (!op->source)
            attempts = OP_ATTEMPTS_MAX;
    }
    operation_recover(op, attempts);
}

void reconcile_resume(struct agent *a, const json_t *intents, bool rebooted)
{
    json_t *row;
    size_t i;

    json_array_foreach((json_t *)(uintptr_t)intents, i, row) recover(a, row);
    for (size_t k = 0; k < a->container_count; k++) {
        struct container *c = a->containers[k];

        if (c->op)
            continue;
        if (rebooted && c->record.status == CONTAINER_STOPPED && c->record.autostart && c->record.wanted_running)
            operation_start(operation_new(a, &op_start, c, NULL, "boot"), NULL);
        else
            watch_after_operation(a, c);
        guest_retry(a, c);
    }
    shares_expire(a); /* and refreshes what adoption has marked */
}
