/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Snapshots of a slot. A snapshot of a running container is what a power cut would leave: the call itself writes out
 * the container's dirty data first, so nothing is flushed by hand.
 */
#include "base/failpoint.h"
#include "base/fd.h"
#include "base/str.h"
#include "runtime/container/cgroup.h"
#include "runtime/container/presence.h"
#include "runtime/container/rootfs.h"
#include "storage/change.h"
#include "storage/layout.h"
#include "storage/nested.h"
#include "storage/subvolume.h"

/* The count of changed bytes stops after this; a snapshot of a container that wrote millions of files has no number. */
#define SIZE_BUDGET_MS 200
#define HOLD_MS 1000

static struct err *check_name(const struct job_snapshot *a)
{
    if (a->previous && !layout_name_ok(a->previous))
        return err_field("previous", "is no valid name of a snapshot");
    return layout_name_ok(a->name) ? NULL : err_field("name", "is no valid name of a snapshot");
}

/* Several subvolumes are of one moment only when nobody writes between their snapshots. Who cannot be frozen in time
 * gets a snapshot whose subvolumes are some milliseconds apart, each as a power cut would leave it: false. */
static bool hold(const struct job *job, const char *rootfs)
{
    bool nested = false;
    struct err *e = nested_exist(rootfs, &nested);

    if (!e && nested)
        e = cgroup_freeze(job->target.cgroup, job->name, true, HOLD_MS);
    err_free(e);
    return !e;
}

static struct err *let_go(const struct job *job, const struct job_snapshot *a)
{
    struct presence p;

    if (!a->hold)
        return NULL;
    presence_look(job, &p);
    return p.alive ? cgroup_freeze(job->target.cgroup, job->name, false, HOLD_MS) : NULL;
}

struct err *job_do_snapshot_create(const struct job *job, void *args, json_t **ret)
{
    const struct job_snapshot *a = args;
    autofree char *rootfs = layout_rootfs(job->target.pool, job->target.slot);
    autofree char *path = NULL, *previous = NULL;
    int64_t bytes = -1;
    bool held = true;
    struct err *e = check_name(a);

    if (e)
        return e;
    path = layout_snapshot(job->target.pool, job->target.slot, a->name);
    if (a->previous)
        previous = layout_snapshot(job->target.pool, job->target.slot, a->previous);
    if (!subvolume_exists(path)) {
        held = !a->hold || hold(job, rootfs);
        e = failpoint("snapshot.held");
        if (!e)
            e = subvolume_snapshot(rootfs, path, true);
        e = err_first(e, let_go(job, a));
    }
    if (!e)
        e = failpoint("snapshot.made");
    if (!e)
        e = change_bytes(path, rootfs, previous, SIZE_BUDGET_MS, &bytes);
    if (!e)
        *ret = json_pack("{s:o, s:b}", "size_bytes", bytes < 0 ? json_null() : json_integer(bytes), "held", held);
    return e;
}

struct err *job_do_snapshot_delete(const struct job *job, void *args, UNUSED json_t **ret)
{
    const struct job_snapshot *a = args;
    autofree char *path = NULL;
    struct err *e = check_name(a);

    if (e)
        return e;
    path = layout_snapshot(job->target.pool, job->target.slot, a->name);
    e = let_go(job, a); /* the undo of a creation that was cut short */
    return err_first(e, subvolume_delete(job->target.pool, path));
}

struct err *job_do_snapshot_restore(const struct job *job, void *args, UNUSED json_t **ret)
{
    const struct job_snapshot *a = args;
    autofree char *slot = layout_slot(job->target.pool, job->target.slot);
    autofree char *rootfs = layout_rootfs(job->target.pool, job->target.slot);
    autofree char *made = layout_temporary(slot, "root"), *path = NULL;
    struct err *e = check_name(a);

    if (e)
        return e;
    path = layout_snapshot(job->target.pool, job->target.slot, a->name);
    e = subvolume_delete(job->target.pool, made);
    if (!e)
        e = subvolume_root(path, made, rootfs);
    if (!e)
        e = failpoint("restore.made");
    return e ? e : rootfs_replace(job, made, "restore.swapped");
}
