/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Snapshots of a slot. A snapshot of a running container is what a power cut would leave: the call itself writes out
 * the container's dirty data first, so nothing is flushed by hand.
 */
#include "base/failpoint.h"
#include "base/fd.h"
#include "base/str.h"
#include "runtime/rootfs.h"
#include "storage/change.h"
#include "storage/layout.h"
#include "storage/subvolume.h"

/* The count of changed bytes stops after this; a snapshot of a container that wrote millions of files has no number. */
#define SIZE_BUDGET_MS 200

static struct err *check_name(const struct job_snapshot *a)
{
    return layout_name_ok(a->name) ? NULL : err_field("name", "is no valid name of a snapshot");
}

struct err *job_do_snapshot_create(const struct job *job, void *args, json_t **ret)
{
    const struct job_snapshot *a = args;
    autofree char *rootfs = layout_rootfs(job->target.pool, job->target.slot);
    autofree char *dir = layout_snapshots(job->target.pool, job->target.slot);
    autofree char *path = NULL;
    int64_t bytes = -1;
    struct err *e = check_name(a);

    if (e)
        return e;
    path = layout_snapshot(job->target.pool, job->target.slot, a->name);
    if (!subvolume_exists(path))
        e = subvolume_snapshot(rootfs, path, true);
    if (!e)
        e = failpoint("snapshot.made");
    if (!e)
        e = change_bytes(path, rootfs, dir, SIZE_BUDGET_MS, &bytes);
    if (!e)
        *ret = json_pack("{s:o}", "size_bytes", bytes < 0 ? json_null() : json_integer(bytes));
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
    return subvolume_delete(job->target.pool, path);
}

struct err *job_do_snapshot_restore(const struct job *job, void *args, UNUSED json_t **ret)
{
    const struct job_snapshot *a = args;
    autofree char *slot = layout_slot(job->target.pool, job->target.slot);
    autofree char *made = layout_temporary(slot, "root"), *path = NULL;
    struct err *e = check_name(a);

    if (e)
        return e;
    path = layout_snapshot(job->target.pool, job->target.slot, a->name);
    e = subvolume_delete(job->target.pool, made);
    if (!e)
        e = subvolume_snapshot(path, made, false);
    if (!e)
        e = failpoint("restore.made");
    return e ? e : rootfs_replace(job, made, "restore.swapped");
}
