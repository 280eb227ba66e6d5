/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/recovery/records.h"

#include "agent/containers/project.h"
#include "agent/containers/share.h"
#include "agent/images/set.h"
#include "agent/network/egress.h"
#include "base/log.h"
#include "base/str.h"
#include "store/mirror.h"

struct records {
    struct agent *agent;
    struct lane *lane;
    json_t *pending; /* path -> text or null; a later commit replaces what an earlier one left */
    json_t *writing;
    bool failed;
};

struct records *records_new(struct agent *a)
{
    struct records *r = mem_new(struct records);

    r->agent = a;
    r->lane = lane_new(a->loop, "records");
    r->pending = json_object();
    return r;
}

void records_free(struct records *r)
{
    if (!r)
        return;
    lane_free(r->lane);
    json_decref(r->pending);
    free(r);
}

bool records_busy(const struct records *r)
{
    return r && (lane_length(r->lane) > 0 || json_object_size(r->pending) > 0);
}

static void next(struct records *r);

static struct err *write_files(void *arg)
{
    struct records *r = arg;

    return mirror_write(r->agent->config->pool, r->writing);
}

static void on_written(void *arg, struct err *e)
{
    struct records *r = arg;

    if (e && !r->failed) /* once: the pool may be full */
        log_warning(
            NULL,
            "the records of the database cannot be written into the pool, so they would be old when the database "
            "is lost: %s",
            err_message(e));
    r->failed = e != NULL;
    err_free(e);
    json_decref(r->writing);
    r->writing = NULL;
    next(r);
}

static void next(struct records *r)
{
    if (r->writing || json_object_size(r->pending) == 0 || r->agent->locks.pool < 0)
        return;
    r->writing = r->pending;
    r->pending = json_object();
    mirror_plan_node(r->agent->pool_id, r->agent->node_id, r->agent->generation_on_disk, r->writing);
    lane_submit(r->lane, write_files, r, on_written);
}

static int64_t slot_of(void *owner, const char *container_id)
{
    const struct container *c = agent_find_any(owner, container_id);

    return c ? c->record.slot : 0;
}

json_t *records_plan(struct agent *a, struct store_tx *tx)
{
    autofree char *text = NULL;
    json_t *files;

    if (!a->records || !mirror_concerns(tx))
        return NULL;
    a->generation++;
    text = str_fmt("%lld", (long long)a->generation);
    store_tx_add(tx, STORE_META_PUT, json_pack("[s, s]", "generation", text));
    files = json_object();
    mirror_plan(tx, a->generation, slot_of, a, files);
    return files;
}

void records_write(struct agent *a, json_t *files)
{
    if (files && a->records) {
        json_object_update(a->records->pending, files);
        next(a->records);
    }
    json_decref(files);
}

static void plan_container(struct agent *a, const struct container *c, json_t *files)
{
    auto_(store_tx_free) struct store_tx *tx = store_tx_new();

    record_put(tx, c);
    record_put_rules(tx, c, c->rules);
    if (c->egress)
        egress_put(tx, c);
    for (size_t i = 0; i < c->snapshot_count; i++)
        record_put_snapshot(tx, c, c->snapshots[i]);
    mirror_plan(tx, a->generation_on_disk, slot_of, a, files);
}

void records_write_container(struct agent *a, const struct container *c)
{
    json_t *files = json_object();

    plan_container(a, c, files);
    records_write(a, files);
}

static void plan_rest(struct agent *a, json_t *files)
{
    auto_(store_tx_free) struct store_tx *tx = store_tx_new();

    for (size_t i = 0; i < a->project_count; i++)
        record_put_project(tx, a->projects[i]);
    for (size_t i = 0; i < a->image_count; i++)
        record_put_image(tx, a->images[i]);
    for (size_t i = 0; i < a->share_count; i++)
        record_put_share(tx, a->shares[i]);
    mirror_plan(tx, a->generation_on_disk, slot_of, a, files);
}

struct refresh {
    struct agent *agent;
    json_t *files;
};

static struct err *drop_equal(void *arg)
{
    struct refresh *f = arg;

    mirror_drop_equal(f->agent->config->pool, f->files);
    return NULL;
}

static void on_compared(void *arg, struct err *e)
{
    struct refresh *f = arg;
    const char *path;
    json_t *text;

    err_ignore(e);
    /* What a commit has changed meanwhile is newer. */
    json_object_foreach(f->agent->records->pending, path, text) json_object_del(f->files, path);
    records_write(f->agent, json_incref(f->files));
    json_decref(f->files);
    free(f);
}

void records_refresh(struct agent *a)
{
    struct refresh *f = mem_new(struct refresh);

    *f = (struct refresh){.agent = a, .files = json_object()};
    for (size_t i = 0; i < a->container_count; i++)
        plan_container(a, a->containers[i], f->files);
    plan_rest(a, f->files);
    lane_submit(a->records->lane, drop_equal, f, on_compared);
}
