/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/agent.h"

#include <assert.h>

#include "agent/containers/ssh_key.h"
#include "agent/events/event.h"
#include "agent/network/relay.h"
#include "agent/recovery/records.h"
#include "agent/recovery/recovery.h"
#include "agent/stats/runtime.h"
#include "agent/storage/reclaim.h"
#include "base/clock.h"
#include "base/id.h"
#include "base/str.h"

/* Linear search: a node has at most some thousand containers, a miss over 1000 costs a few microseconds. */
struct container *agent_find_any(const struct agent *a, const char *id)
{
    for (size_t i = 0; i < a->container_count; i++)
        if (str_eq(a->containers[i]->record.id, id))
            return a->containers[i];
    return NULL;
}

struct container *agent_find(const struct agent *a, const char *id)
{
    struct container *c = agent_find_any(a, id);

    return c && !c->record.spare ? c : NULL;
}

struct container *agent_find_by_name(const struct agent *a, const char *project_id, const char *name)
{
    for (size_t i = 0; i < a->container_count; i++)
        if (str_eq(a->containers[i]->record.name, name) && str_eq(a->containers[i]->record.project_id, project_id))
            return a->containers[i];
    return NULL;
}

struct container *agent_find_by_slot(const struct agent *a, int64_t slot)
{
    for (size_t i = 0; i < a->container_count; i++)
        if (a->containers[i]->record.slot == slot)
            return a->containers[i];
    return NULL;
}

/* One that was removed counts until it is out of the container's files. */
static bool has_ssh_key(const struct container_record *r, const char *key)
{
    const json_t *removed;
    size_t i;

    json_array_foreach(r->ssh_removed, i, removed)
    {
        if (ssh_key_same(json_string_value(removed), key))
            return true;
    }
    return ssh_key_same(r->ssh_public_key, key);
}

struct container *agent_find_by_ssh_key(const struct agent *a, const char *key)
{
    for (size_t i = 0; key && i < a->container_count; i++)
        if (has_ssh_key(&a->containers[i]->record, key))
            return a->containers[i];
    return NULL;
}

void agent_add(struct agent *a, struct container *c)
{
    a->containers = mem_grow(a->containers, a->container_count + 1, sizeof(struct container *));
    a->containers[a->container_count++] = c;
    slot_net_init(&a->plan, (int)c->record.slot, &c->net);
}

void agent_remove(struct agent *a, struct container *c)
{
    size_t i = 0;

    while (i < a->container_count && a->containers[i] != c)
        i++;
    assert(i < a->container_count);
    a->containers[i] = a->containers[--a->container_count];
    relay_end(c);
    runtime_forget(c);
    container_free(c);
}

size_t agent_shown_count(const struct agent *a)
{
    size_t n = 0;

    for (size_t i = 0; i < a->container_count; i++)
        n += a->containers[i]->record.spare == NULL;
    return n;
}

struct err *agent_free_slot(const struct agent *a, int64_t *ret)
{
    int64_t max = (int64_t)net_plan_max_slot(&a->plan);
    bool full = (int64_t)agent_shown_count(a) >= a->config->max_containers;
    autofree bool *used = mem_new_array(bool, (size_t)max + 1);

    for (size_t i = 0; i < a->container_count; i++)
        if (a->containers[i]->record.slot <= max)
            used[a->containers[i]->record.slot] = true;
    for (int64_t slot = 1; !full && slot <= max; slot++) {
        if (!used[slot] && !quarantine_has(a, slot)) {
            *ret = slot;
            return NULL;
        }
    }
    return err_reason(err_new(ERR_LIMIT, "This server takes %lld containers and has them", (long long)max),
                      "SERVER_CONTAINER_LIMIT");
}

struct commit {
    struct agent *agent;
    struct store_tx *tx;
    json_t *files; /* of records.h; NULL: none */
    int64_t generation;
    void *owner;
    agent_done_fn *done;
};

static struct err *commit_work(void *arg)
{
    struct commit *c = arg;

    return store_commit(c->agent->store, c->tx);
}

static void commit_done(void *arg, struct err *e)
{
    struct commit *c = arg;

    if (e) {
        json_decref(c->files);
    } else {
        c->agent->generation_on_disk = MAX(c->agent->generation_on_disk, c->generation);
        records_write(c->agent, c->files);
        events_show(c->agent, c->tx);
    }
    store_tx_free(c->tx);
    c->done(c->owner, e);
    free(c);
}

void agent_commit(struct agent *a, struct store_tx *tx, void *owner, agent_done_fn *done)
{
    struct commit *c = mem_new(struct commit);

    *c = (struct commit){.agent = a, .tx = tx, .files = records_plan(a, tx), .owner = owner, .done = done};
    c->generation = c->files ? a->generation : 0;
    events_number(a, tx);
    lane_submit(a->store_lane, commit_work, c, commit_done);
}

struct running_job {
    struct agent *agent;
    enum job_kind kind;
    void *owner;
    void (*progress)(void *owner, int64_t done, int64_t total);
    worker_done_fn *done;
};

static void on_job_progress(void *owner, int64_t done, int64_t total)
{
    struct running_job *j = owner;

    if (j->progress)
        j->progress(j->owner, done, total);
}

static void on_job(void *owner, struct err *e, json_t *result)
{
    struct running_job *j = owner;

    if (j->agent->reclaim)
        reclaim_job_ended(j->agent->reclaim, j->kind);
    j->done(j->owner, e, result);
    free(j);
}

struct worker *agent_job_in(struct agent *a, struct workers *workers, enum job_kind kind, int64_t slot,
                            const void *args, int64_t extra_ms, const struct worker_io *io, void *owner,
                            worker_done_fn *done)
{
    const struct job_target target = {
        .pool = a->config->pool, .run_dir = a->config->run_dir, .cgroup = a->config->cgroup, .slot = slot};
    const struct worker_io own = {.stream = io ? io->stream : -1, .progress = on_job_progress};
    struct running_job *j = mem_new(struct running_job);

    *j = (struct running_job){a, kind, owner, io ? io->progress : NULL, done};
    return workers_run(workers, kind, job_request(kind, &target, args), extra_ms, &own, j, on_job);
}

void agent_job(struct agent *a, enum job_kind kind, int64_t slot, const void *args, int64_t extra_ms, void *owner,
               worker_done_fn *done)
{
    (void)agent_job_in(a, a->workers, kind, slot, args, extra_ms, NULL, owner, done);
}

struct worker *agent_wait_job(struct agent *a, enum job_kind kind, int64_t slot, const void *args, int64_t patience_ms,
                              void *owner, worker_done_fn *done)
{
    return agent_job_in(a, a->wait_workers, kind, slot, args, patience_ms, NULL, owner, done);
}

void agent_stream_job(struct agent *a, enum job_kind kind, int64_t slot, const void *args, const struct worker_io *io,
                      void *owner, worker_done_fn *done)
{
    (void)agent_job_in(a, a->stream_workers, kind, slot, args, 0, io, owner, done);
}

/* A container whose deletion is on its way to the disk would come back with the first, and the others refer to it. */
void record_put(struct store_tx *tx, const struct container *c)
{
    const struct container_record *r = &c->record;

    if (c->gone)
        return;
    store_tx_add(tx, STORE_CONTAINER_PUT,
                 json_pack("[s, I, s, s, o]", r->id, (json_int_t)r->slot, r->project_id, r->name,
                           store_text(json_table_save(&container_record_table, r))));
}

void record_put_rules(struct store_tx *tx, const struct container *c, const struct ruleset *rules)
{
    if (!c->gone)
        store_tx_add(tx, STORE_FIREWALL_PUT, json_pack("[s, o]", c->record.id, store_text(ruleset_to_json(rules))));
}

void record_put_snapshot(struct store_tx *tx, const struct container *c, const struct snapshot *s)
{
    if (!c->gone)
        store_tx_add(tx, STORE_SNAPSHOT_PUT,
                     json_pack("[s, s, o]", c->record.id, s->name, store_text(json_table_save(&snapshot_table, s))));
}

void record_log(struct agent *a, struct store_tx *tx, const struct container *c, const char *from, const char *to,
                int64_t duration_ms, const char *triggered_by, json_t *metadata)
{
    autojson duration = duration_ms >= 0 ? json_integer(duration_ms) : json_null();
    autofree char *type = str_fmt("container.%s", to);
    int64_t now = clock_wall_ms();
    char id[ID_OBJECT_LEN + 1];

    if (c->record.spare) { /* nobody knows of it */
        json_decref(metadata);
        return;
    }
    event_add(a, tx, type, c,
              json_pack("{s:s, s:s?, s:s, s:O, s:s, s:O?, s:O?, s:O?}", "name", c->record.name, "from_status", from,
                        "to_status", to, "duration_ms", duration, "triggered_by", triggered_by, "operation",
                        json_object_get(metadata, "command"), "operation_id", json_object_get(metadata, "operation_id"),
                        "kits_ready_ms", json_object_get(metadata, "kits_ready_ms")));
    id_object(id);
    store_tx_add(tx, STORE_LOG_ADD,
                 json_pack("[s, s, s?, s, I, O, s, o, I]", id, c->record.id, from, to, (json_int_t)now, duration,
                           triggered_by, metadata ? store_text(metadata) : json_null(), (json_int_t)now));
}
