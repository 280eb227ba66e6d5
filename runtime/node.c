/* SPDX-License-Identifier: Apache-2.0 */
/* Jobs about the node as a whole: the pool, and what is really there. */
#include <linux/ioprio.h>
#include <sys/syscall.h>

#include "base/failpoint.h"
#include "base/fd.h"
#include "base/str.h"
#include "images/image.h"
#include "provisioning/bundle.h"
#include "provisioning/install.h"
#include "provisioning/ramdisk.h"
#include "runtime/container/cgroup.h"
#include "runtime/container/presence.h"
#include "runtime/container/rootfs.h"
#include "runtime/container/shares.h"
#include "runtime/names.h"
#include "storage/layout.h"
#include "storage/pool.h"
#include "storage/pool_state.h"
#include "storage/quota.h"
#include "storage/reclaim.h"
#include "storage/scrub.h"
#include "storage/subvolume.h"

static struct err *describe_pool(const char *pool, json_t **ret)
{
    struct pool_info info = {0};
    struct err *e = pool_stat(pool, &info);

    if (!e)
        *ret = json_pack("{s:I, s:I, s:s?}", "total_bytes", (json_int_t)info.total_bytes, "free_bytes",
                         (json_int_t)info.free_bytes, "loop_device", info.loop_device);
    pool_info_done(&info);
    return e;
}

/* What interrupted installs left, which the next one would find. Not the pool's fault when it cannot be removed: that
 * install says so. */
static void sweep_installs(const char *pool)
{
    autofree char *images = layout_images(pool), *kits = layout_kits(pool);
    const char *const dirs[] = {images, kits};

    for (size_t i = 0; i < ARRAY_LEN(dirs); i++) {
        autofd int lock = -1;

        err_ignore(install_begin(pool, dirs[i], &lock));
    }
}

struct err *job_do_pool_open(const struct job *job, void *args, json_t **ret)
{
    const struct job_pool_open *a = args;
    bool mounted = false;
    struct err *e = pool_open(job->target.pool, a->loop_file, a->loop_bytes, a->must_exist, &mounted);

    if (!e)
        e = describe_pool(job->target.pool, ret);
    if (!e)
        json_object_set_new(*ret, "mounted", json_boolean(mounted));
    return e;
}

struct err *job_do_pool_prepare(const struct job *job, void *args, json_t **ret)
{
    const struct job_pool_open *a = args;
    struct err *e = pool_prepare(job->target.pool);

    if (!e && a->quota && a->loop_file)
        e = quota_enable(job->target.pool);
    if (e)
        return e;
    sweep_installs(job->target.pool);
    quota_account_sweep(job->target.pool);
    *ret = json_pack("{s:b}", "quota", quota_is_on(job->target.pool));
    return NULL;
}

struct err *job_do_pool_grow(const struct job *job, void *args, json_t **ret)
{
    const struct job_pool_open *a = args;
    struct err *e = pool_grow(job->target.pool, a->loop_file, a->loop_bytes);

    return e ? e : describe_pool(job->target.pool, ret);
}

static bool is_temporary(const char *name)
{
    return strncmp(name, LAYOUT_TEMPORARY, strlen(LAYOUT_TEMPORARY)) == 0;
}

/* Adds the snapshots' names to the array; true when there are leftovers. */
static struct err *look_at_snapshots(const char *dir, json_t *array, bool *leftovers)
{
    auto_(names_free) struct names *names = NULL;
    struct err *e = names_list(dir, &names);

    for (size_t i = 0; !e && i < names->count; i++) {
        if (is_temporary(names->name[i]))
            *leftovers = true;
        else
            json_array_append_new(array, json_string(names->name[i]));
    }
    return e;
}

static struct err *look_at_slot(const struct job *node, int64_t slot, void *slots)
{
    struct job job = {.target = node->target};
    autofree char *name = str_fmt("c%lld", (long long)slot), *run = str_fmt("%s/%s", job.target.run_dir, name);
    autofree char *dir = layout_slot(job.target.pool, slot), *rootfs = layout_rootfs(job.target.pool, slot);
    autofree char *snapshots = layout_snapshots(job.target.pool, slot), *monitor = str_fmt("m%lld", (long long)slot);
    auto_(names_free) struct names *names = NULL;
    bool whole = subvolume_exists(rootfs), leftovers = !whole, frozen;
    json_t *array = json_array();
    struct presence p;
    struct err *e;

    job.target.slot = slot;
    job.name = name;
    job.dir = run;
    presence_look(&job, &p);
    frozen = p.init && cgroup_is_frozen(job.target.cgroup, name);
    if (!p.alive && (cgroup_exists(job.target.cgroup, name) || cgroup_exists(job.target.cgroup, monitor) ||
                     rootfs_is_mounted(&job)))
        leftovers = true;
    e = names_list(dir, &names);
    for (size_t i = 0; !e && i < names->count; i++)
        leftovers |= is_temporary(names->name[i]);
    if (!e)
        e = look_at_snapshots(snapshots, array, &leftovers);
    json_array_append_new(slots, json_pack("{s:I, s:b, s:b, s:o, s:i, s:b, s:b, s:b}", "slot", (json_int_t)slot,
                                           "rootfs", whole, "leftovers", leftovers, "snapshots", array, "init_pid",
                                           (int)p.init, "frozen", frozen, "ramdisk",
                                           ramdisk_mounted(job.target.run_dir, slot), "shares", shares_any(&job)));
    return e;
}

/* Calls look for all slots that have a directory in the pool or a run directory. */
static struct err *each_slot(const struct job *job, struct err *(*look)(const struct job *, int64_t, void *),
                             void *slots)
{
    autofree char *dir = layout_slots(job->target.pool);
    auto_(names_free) struct names *pool = NULL, *run = NULL;
    struct err *e = names_list(dir, &pool);
    int64_t slot;

    if (!e)
        e = names_list(job->target.run_dir, &run);
    for (size_t i = 0; !e && i < pool->count; i++)
        if (str_to_i64(pool->name[i], &slot) && layout_slot_ok(slot))
            e = look(job, slot, slots);
    for (size_t i = 0; !e && i < run->count; i++) {
        autofree char *known = NULL;

        if (run->name[i][0] != 'c' || !str_to_i64(run->name[i] + 1, &slot) || !layout_slot_ok(slot))
            continue;
        known = layout_slot(job->target.pool, slot);
        if (access(known, F_OK) < 0)
            e = look(job, slot, slots);
    }
    return e;
}

struct err *job_do_inventory(const struct job *job, UNUSED void *args, json_t **ret)
{
    json_t *slots = json_array(), *images = NULL, *kits = NULL;
    struct err *e = each_slot(job, look_at_slot, slots);

    if (!e)
        e = image_list(job->target.pool, &images);
    if (!e)
        e = bundle_list(job->target.pool, &kits);
    *ret = json_pack("{s:o, s:o, s:o}", "slots", slots, "images", images ? images : json_array(), "kits",
                     kits ? kits : json_array());
    return e;
}

static json_t *bytes_or_null(int64_t bytes)
{
    return bytes < 0 ? json_null() : json_integer(bytes);
}

struct measured {
    json_t *slots;
    uint64_t *accounts; /* of what containers have deleted inside; NULL: not known */
    size_t count;
};

static json_t *charged_to(const struct measured *m, uint64_t account)
{
    json_int_t n = 0;

    for (size_t i = 0; account && i < m->count; i++)
        n += m->accounts[i] == account;
    return account ? json_integer(n) : json_null();
}

static struct err *measure(const struct job *node, int64_t slot, void *owner)
{
    autofree char *rootfs = layout_rootfs(node->target.pool, slot), *key = str_fmt("%lld", (long long)slot);
    autofree char *ramdisk = ramdisk_path(node->target.run_dir, slot);
    const struct measured *m = owner;
    uint64_t account = m->accounts ? quota_account(rootfs) : 0;
    int64_t disk = -1, held = ramdisk_used(ramdisk);

    err_ignore(quota_usage(rootfs, &disk)); /* it may have no root, or lose it this moment */
    json_object_set_new(m->slots, key,
                        json_pack("{s:o, s:o, s:o}", "disk", bytes_or_null(disk), "ramdisk", bytes_or_null(held),
                                  "deleted", charged_to(m, account)));
    return NULL;
}

/* Ramdisks that projects share: p<project> in the run directory. */
static struct err *measure_projects(const struct job *job, json_t *projects)
{
    auto_(names_free) struct names *names = NULL;
    struct err *e = names_list(job->target.run_dir, &names);

    for (size_t i = 0; !e && i < names->count; i++) {
        const char *project = names->name[i] + 1;
        autofree char *path = NULL;

        if (names->name[i][0] != 'p' || !str_is_object_id(project))
            continue;
        path = ramdisk_project_path(job->target.run_dir, project);
        json_object_set_new(projects, project, bytes_or_null(ramdisk_used(path)));
    }
    return e;
}

static json_t *reclaim_json(const struct reclaim_state *r)
{
    return json_pack("{s:I, s:I, s:o, s:o}", "subvolumes", (json_int_t)r->reclaimed, "trash", (json_int_t)r->waiting,
                     "bytes", bytes_or_null(r->bytes), "oldest_ms",
                     r->waiting ? json_integer(r->oldest_ms) : json_null());
}

struct err *job_do_usage(const struct job *job, UNUSED void *args, json_t **ret)
{
    json_t *projects = json_object();
    struct measured m = {.slots = json_object()};
    struct err *e = NULL;
    struct reclaim_state r = {0};
    struct pool_state p = {0};

    if (quota_is_on(job->target.pool))
        e = reclaim_accounts(job->target.pool, &m.accounts, &m.count);
    if (!e)
        e = each_slot(job, measure, &m);
    free(m.accounts);
    if (!e)
        e = measure_projects(job, projects);
    if (!e)
        e = pool_state_read(job->target.pool, &p);
    if (!e)
        e = reclaim_read(job->target.pool, &r);
    *ret = json_pack("{s:o, s:o, s:{s:o, s:{s:I, s:I, s:I, s:I, s:I}}}", "slots", m.slots, "projects", projects, "pool",
                     "reclaim", reclaim_json(&r), "device_errors", "write", (json_int_t)p.write_errors, "read",
                     (json_int_t)p.read_errors, "flush", (json_int_t)p.flush_errors, "corruption",
                     (json_int_t)p.corruption_errors, "generation", (json_int_t)p.generation_errors);
    return e;
}

struct err *job_do_reclaim(const struct job *job, void *args, json_t **ret)
{
    const struct job_reclaim *a = args;
    struct reclaim_ids ours = {.id = mem_new_array(uint64_t, json_array_size(a->ours) + 1)};
    json_t *left = json_array();
    struct err *problem, *e;
    struct reclaim_state r = {0};

    for (size_t i = 0; i < json_array_size(a->ours); i++)
        ours.id[ours.count++] = (uint64_t)json_integer_value(json_array_get(a->ours, i));
    problem = reclaim_run(job->target.pool, a->most, &ours);
    for (size_t i = 0; i < ours.count; i++)
        json_array_append_new(left, json_integer((json_int_t)ours.id[i]));
    reclaim_ids_clear(&ours);
    quota_account_sweep(job->target.pool);
    e = reclaim_read(job->target.pool, &r);
    *ret = reclaim_json(&r);
    json_object_set_new(*ret, "ours", left);
    json_object_set_new(*ret, "problem", problem ? json_string(err_message(problem)) : json_null());
    err_free(problem);
    return e;
}

struct err *job_do_scrub(const struct job *job, void *args, json_t **ret)
{
    const struct job_scrub *a = args;
    struct scrub_part part = {0};
    struct err *e = failpoint("scrub.part");

    (void)syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, IOPRIO_PRIO_VALUE(IOPRIO_CLASS_IDLE, 0));
    if (!e)
        e = scrub_run(job->target.pool, a->devid, a->next, a->rate, a->budget_ms, &part);
    *ret = json_pack("{s:I, s:I, s:I, s:I, s:I, s:I}", "devid", (json_int_t)part.devid, "next", (json_int_t)part.next,
                     "bytes", (json_int_t)part.bytes, "total_bytes", (json_int_t)part.total_bytes, "errors",
                     (json_int_t)part.errors, "corrected", (json_int_t)part.corrected);
    return e;
}

static struct err *let_go(const struct job *node, int64_t slot, UNUSED void *owner)
{
    struct job job = {.target = node->target};
    autofree char *name = str_fmt("c%lld", (long long)slot), *run = str_fmt("%s/%s", job.target.run_dir, name);
    struct presence p;

    job.target.slot = slot;
    job.name = name;
    job.dir = run;
    presence_look(&job, &p);
    return p.alive ? err_new(ERR_WRONG_STATE, "slot %lld is running", (long long)slot) : rootfs_unmount(&job);
}

struct err *job_do_pool_close(const struct job *job, UNUSED void *args, UNUSED json_t **ret)
{
    struct err *e = each_slot(job, let_go, NULL);

    return e ? e : pool_close(job->target.pool);
}
