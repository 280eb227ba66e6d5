/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/recovery/recovery.h"

#include <stdio.h>

#include "base/id.h"
#include "base/log.h"
#include "base/str.h"

static const struct {
    const char *word, *message, *remedy;
} holds[HOLD_REASON_MAX] = {
    [HOLD_NONE] = {"none", "the database and the pool agree", NULL},
    [HOLD_POOL_MISSING] =
        {"pool_missing", "the storage pool cannot be opened, and the database knows containers in it",
         "bring the pool's disk or file back and run \"nodectl recover retry\"; when it is lost for good, "
         "\"nodectl recover accept\" begins with an empty pool and marks the containers as failed"},
    [HOLD_POOL_EMPTY] = {"pool_empty", "the database knows containers, and the storage pool is empty",
                         "mount the right pool and run \"nodectl recover retry\"; when it is lost for good, \"nodectl "
                         "recover accept\" uses this one and marks the containers as failed"},
    [HOLD_POOL_FOREIGN] =
        {"pool_foreign", "the storage pool belongs to another database than this one",
         "mount the right pool, or put the right database back, and run \"nodectl recover retry\"; to "
         "take this pool with its containers, move the database away first and start noded again"},
    [HOLD_DATABASE_LOST] =
        {"database_lost", "the storage pool has containers, and the database is new",
         "put the database back and run \"nodectl recover retry\"; when it is lost, \"nodectl recover "
         "adopt\" makes it anew from the records in the pool"},
    [HOLD_DATABASE_OLD] = {"database_old", "the storage pool is newer than the database",
                           "put the newest database back and run \"nodectl recover retry\"; when this is the newest, "
                           "\"nodectl recover adopt\" brings it up to date from the records in the pool"},
    [HOLD_STATE_LOST] =
        {"state_lost", "the state directory is empty, and this server has had a node since it booted",
         "mount the state directory and run \"nodectl recover retry\"; when the node is meant to be new, "
         "run \"nodectl recover accept\""},
};

const char *hold_word(enum hold_reason reason)
{
    return holds[reason].word;
}

const char *hold_message(const struct judgement *j)
{
    return j->message ? j->message : holds[j->reason].message;
}

const char *hold_remedy(enum hold_reason reason)
{
    return holds[reason].remedy;
}

static void finding_clear(struct finding *f)
{
    free(f->id);
    free(f->name);
    json_decref(f->records);
    json_decref(f->row);
}

void judgement_clear(struct judgement *j)
{
    for (size_t i = 0; i < j->count; i++)
        finding_clear(&j->findings[i]);
    free(j->findings);
    free(j->message);
    *j = (struct judgement){0};
}

static struct finding *add(struct judgement *j, int64_t slot)
{
    j->findings = mem_grow(j->findings, j->count + 1, sizeof(struct finding));
    j->findings[j->count] = (struct finding){.slot = slot};
    return &j->findings[j->count++];
}

static json_t *row_of(const json_t *rows, int64_t slot)
{
    json_t *row;
    size_t i;

    json_array_foreach((json_t *)(uintptr_t)rows, i,
                       row) if (json_integer_value(json_object_get(row, "slot")) == slot) return row;
    return NULL;
}

static void name_it(struct finding *f, const char *id, const char *name)
{
    if (!f->id) {
        f->id = str_dup(id);
        f->name = str_dup(name);
    }
}

static const json_t *own_record(const struct finding *f)
{
    return json_array_get(f->records, 0);
}

/* The generations of two pools say nothing about each other: of another pool than the database's only the ids count. In
 * the same pool a claim may have given the slot to another container after the record was written. */
static enum finding_verdict verdict_of(const struct agent *a, const struct judgement *j, const struct finding *f,
                                       const json_t *row)
{
    bool same_pool = str_eq(a->pool_id, j->pool.pool_id);
    bool newer = json_integer_value(json_object_get(own_record(f), "generation")) > a->generation;

    if (!row)
        return FINDING_UNKNOWN;
    if (own_record(f) && !str_eq(f->id, json_string_value(json_object_get(row, "id"))) && (newer || !same_pool))
        return FINDING_OTHER;
    return own_record(f) && newer ? FINDING_NEWER : FINDING_KNOWN;
}

static void judge_disk(struct agent *a, struct judgement *j, const json_t *entry, json_t *row)
{
    const json_t *snapshots = json_object_get(entry, "snapshots"), *record;
    struct finding f = {.slot = json_integer_value(json_object_get(entry, "slot")),
                        .rootfs = json_is_true(json_object_get(entry, "rootfs")),
                        .running = json_integer_value(json_object_get(entry, "init_pid")) > 0,
                        .snapshots = json_array_size(snapshots)};
    size_t damaged = 0;

    if (!f.rootfs && !f.running && f.snapshots == 0)
        return;
    f.records = mirror_read(a->config->pool, f.slot, &damaged);
    f.row = json_incref(row);
    if (damaged)
        log_warning(NULL, "slot %lld of the pool has %zu damaged records: they are ignored", (long long)f.slot,
                    damaged);
    record = json_object_get(own_record(&f), "row");
    if (record)
        name_it(&f, json_string_value(json_array_get(record, 0)), json_string_value(json_array_get(record, 3)));
    f.verdict = verdict_of(a, j, &f, row);
    if (row)
        name_it(&f, json_string_value(json_object_get(row, "id")), json_string_value(json_object_get(row, "name")));
    *add(j, f.slot) = f;
}

/* Rows of containers that must have a disk. */
static void judge_row(struct judgement *j, json_t *row, const json_t *inventory)
{
    static const char *const without[] = {"creating", "copying", "failed", "deleting", "claiming"};
    int64_t slot = json_integer_value(json_object_get(row, "slot"));
    autojson body = json_loads(json_string_value(json_object_get(row, "body")), 0, NULL);
    const json_t *entry = row_of(json_object_get(inventory, "slots"), slot);
    struct finding *f;

    for (size_t i = 0; i < ARRAY_LEN(without); i++)
        if (str_eq(json_string_value(json_object_get(body, "status")), without[i]))
            return;
    if (json_is_true(json_object_get(entry, "rootfs")))
        return;
    for (size_t i = 0; i < j->count; i++)
        if (j->findings[i].slot == slot && j->findings[i].verdict == FINDING_KNOWN)
            return; /* its snapshots or its processes are there */
    f = add(j, slot);
    f->verdict = FINDING_MISSING;
    f->row = json_incref(row);
    name_it(f, json_string_value(json_object_get(row, "id")), json_string_value(json_object_get(row, "name")));
}

static size_t count_of(const struct judgement *j, enum finding_verdict verdict)
{
    size_t n = 0;

    for (size_t i = 0; i < j->count; i++)
        n += j->findings[i].verdict == verdict;
    return n;
}

/* The rows of this database are those of this pool, whatever the identities say: for a database and a pool from before
 * they had one. */
static bool all_known(const struct judgement *j)
{
    return count_of(j, FINDING_UNKNOWN) + count_of(j, FINDING_OTHER) + count_of(j, FINDING_NEWER) == 0;
}

static bool was_here_since_boot(const struct agent *a)
{
    struct mirror_node seen;
    struct err *e = mirror_read_node(a->config->run_dir, &seen);

    err_ignore(e);
    return seen.pool_id[0] != '\0';
}

static enum hold_reason reason_of(const struct agent *a, const struct judgement *j, size_t rows)
{
    bool database = a->pool_id[0] != '\0', pool = j->pool.pool_id[0] != '\0';
    size_t disks = j->count - count_of(j, FINDING_MISSING);

    if (database && pool && str_eq(a->pool_id, j->pool.pool_id))
        return j->pool.generation > a->generation || count_of(j, FINDING_OTHER) + count_of(j, FINDING_NEWER) > 0
                   ? HOLD_DATABASE_OLD
                   : HOLD_NONE;
    if (rows == 0 && disks == 0)
        return database || pool || !was_here_since_boot(a) ? HOLD_NONE : HOLD_STATE_LOST;
    if (rows == 0)
        return database && pool ? HOLD_POOL_FOREIGN : HOLD_DATABASE_LOST;
    if (disks == 0)
        return count_of(j, FINDING_MISSING) > 0 ? HOLD_POOL_EMPTY : HOLD_NONE;
    if (database && pool)
        return HOLD_POOL_FOREIGN;
    if (all_known(j))
        return HOLD_NONE;
    return database ? HOLD_POOL_FOREIGN : HOLD_DATABASE_OLD;
}

bool judge_knows_containers(struct agent *a)
{
    autojson rows = NULL;

    err_ignore(store_query(a->store, STORE_CONTAINER_ALL, NULL, &rows)); /* the load says what is wrong with it */
    return json_array_size(rows) > 0;
}

/* An accepted new pool is made, and then found empty. */
static bool is_accepted(enum hold_reason reason, const char *accepted)
{
    return str_eq(accepted, holds[reason].word) ||
           (reason == HOLD_POOL_EMPTY && str_eq(accepted, holds[HOLD_POOL_MISSING].word));
}

struct err *judge(struct agent *a, const json_t *inventory, const char *accepted, struct judgement *ret)
{
    autojson rows = NULL;
    struct judgement j = {0};
    struct err *e = store_query(a->store, STORE_CONTAINER_ALL, NULL, &rows);
    struct err *damage;
    json_t *v;
    size_t i;

    if (e)
        return e;
    damage = mirror_read_node(a->config->pool, &j.pool);
    log_err(NULL, LOG_LEVEL_WARNING, damage, "the pool's identity is ignored");
    json_array_foreach(json_object_get(inventory, "slots"), i, v)
        judge_disk(a, &j, v, row_of(rows, json_integer_value(json_object_get(v, "slot"))));
    json_array_foreach(rows, i, v) judge_row(&j, v, inventory);
    j.reason = reason_of(a, &j, json_array_size(rows));
    j.accepted = j.reason != HOLD_NONE && is_accepted(j.reason, accepted);
    if (j.accepted)
        j.reason = HOLD_NONE;
    *ret = j;
    return NULL;
}

/* The pool's identity comes first: a crash in between leaves a pool that the next start takes for the same reasons. */
struct err *judge_agree(struct agent *a, const struct judgement *j)
{
    auto_(store_tx_free) struct store_tx *tx = store_tx_new();
    autofree char *text = NULL;
    autojson files = json_object();
    struct err *e;

    if (j->pool.pool_id[0])
        snprintf(a->pool_id, sizeof(a->pool_id), "%s", j->pool.pool_id);
    else if (!a->pool_id[0] || j->accepted) /* the pool that was known may come back: this is another one */
        id_object(a->pool_id);
    a->generation = a->generation_on_disk = MAX(a->generation, j->pool.generation);
    text = str_fmt("%lld", (long long)a->generation);
    store_tx_add(tx, STORE_META_PUT, json_pack("[s, s]", "pool_id", a->pool_id));
    store_tx_add(tx, STORE_META_PUT, json_pack("[s, s]", "generation", text));
    store_tx_add(tx, STORE_META_PUT, json_pack("[s, s]", "accepted", ""));
    mirror_plan_node(a->pool_id, a->node_id, a->generation, files);
    e = mirror_write(a->config->run_dir, files);
    mirror_drop_equal(a->config->pool, files);
    if (!e)
        e = mirror_write(a->config->pool, files);
    return e ? e : store_commit(a->store, tx);
}

static json_t *finding_json(const struct finding *f)
{
    static const char *const words[] = {[FINDING_KNOWN] = "known",
                                        [FINDING_UNKNOWN] = "unknown",
                                        [FINDING_OTHER] = "other",
                                        [FINDING_NEWER] = "newer",
                                        [FINDING_MISSING] = "missing"};

    return json_pack("{s:I, s:s, s:s?, s:s?, s:b, s:b, s:I, s:b}", "slot", (json_int_t)f->slot, "verdict",
                     words[f->verdict], "container_id", f->id, "name", f->name, "disk", f->rootfs, "running",
                     f->running, "snapshots", (json_int_t)f->snapshots, "record", own_record(f) != NULL);
}

json_t *judgement_json(const struct agent *a, const struct judgement *j)
{
    const char *pool_id = j->pool.pool_id[0] ? j->pool.pool_id : NULL, *known = a->pool_id[0] ? a->pool_id : NULL;
    json_t *list = json_array();

    for (size_t i = 0; i < j->count; i++)
        if (j->reason != HOLD_NONE || j->findings[i].verdict != FINDING_KNOWN)
            json_array_append_new(list, finding_json(&j->findings[i]));
    return json_pack("{s:b, s:s, s:s, s:s?, s:{s:s, s:s?, s:I}, s:{s:s, s:s?, s:I}, s:o}", "held",
                     j->reason != HOLD_NONE, "reason", holds[j->reason].word, "message", hold_message(j), "remedy",
                     holds[j->reason].remedy, "database", "path", a->config->state_dir, "pool_id", known, "generation",
                     (json_int_t)a->generation, "pool", "path", a->config->pool, "pool_id", pool_id, "generation",
                     (json_int_t)j->pool.generation, "containers", list);
}

bool quarantine_has(const struct agent *a, int64_t slot)
{
    for (size_t i = 0; i < a->judgement->count; i++)
        if (a->judgement->findings[i].slot == slot && a->judgement->findings[i].verdict == FINDING_UNKNOWN)
            return true;
    return false;
}
