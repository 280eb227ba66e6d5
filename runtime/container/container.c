/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The root file system of a slot comes into being under a temporary name and gets its own as the last step. So a slot
 * without one is a half-made container, and a slot with one is whole.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/failpoint.h"
#include "base/fd.h"
#include "base/str.h"
#include "images/image.h"
#include "provisioning/confined.h"
#include "provisioning/ramdisk.h"
#include "provisioning/seed.h"
#include "runtime/container/presence.h"
#include "runtime/container/seeding.h"
#include "runtime/container/stop.h"
#include "runtime/names.h"
#include "storage/layout.h"
#include "storage/subvolume.h"

#define RUN_DEPTH 3

static struct err *choose_source(const struct job *job, const struct job_create *a, char **ret)
{
    const char *pool = job->target.pool;

    if (a->image) {
        if (!layout_image_ok(a->image))
            return err_field("image", "is no valid name");
        *ret = image_base_path(pool, a->image, a->base);
        if (a->base && !subvolume_exists(*ret)) {
            free(*ret);
            *ret = layout_image(pool, a->image);
        }
    } else {
        if (!layout_slot_ok(a->source_slot))
            return err_field("source_slot", "is out of range");
        if (a->source_snapshot && !layout_name_ok(a->source_snapshot))
            return err_field("source_snapshot", "is no valid name");
        *ret = a->source_snapshot ? layout_snapshot(pool, a->source_slot, a->source_snapshot)
                                  : layout_rootfs(pool, a->source_slot);
    }
    return NULL;
}

static struct err *copy_snapshot(const struct job *job, int64_t source_slot, const char *name)
{
    autofree char *src = NULL, *dst = NULL;

    if (!layout_name_ok(name))
        return err_field("snapshots", "has a name that is none");
    src = layout_snapshot(job->target.pool, source_slot, name);
    dst = layout_snapshot(job->target.pool, job->target.slot, name);
    return subvolume_exists(dst) ? NULL : subvolume_snapshot(src, dst, true);
}

static struct err *copy_snapshots(const struct job *job, const struct job_create *a)
{
    struct err *e = NULL;
    json_t *name;
    size_t i;

    json_array_foreach(a->snapshots, i, name)
    {
        if (!e)
            e = copy_snapshot(job, a->source_slot, json_string_value(name));
    }
    return e;
}

static json_t *made_of(const struct job_create *a)
{
    return json_pack("{s:b, s:o}", "seeded", 1, "snapshots", a->snapshots ? json_incref(a->snapshots) : json_array());
}

struct err *job_do_create(const struct job *job, void *args, json_t **ret)
{
    autofree char *slot = layout_slot(job->target.pool, job->target.slot), *source = NULL;
    autofree char *snapshots = layout_snapshots(job->target.pool, job->target.slot);
    autofree char *rootfs = layout_rootfs(job->target.pool, job->target.slot);
    autofree char *made = layout_temporary(slot, "root");
    const struct job_create *a = args;
    struct err *e = choose_source(job, a, &source);

    if (!e && subvolume_exists(rootfs)) {
        *ret = made_of(a);
        return NULL;
    }
    if (!e)
        e = fd_mkdirs(snapshots, 0700);
    if (!e)
        e = subvolume_delete(job->target.pool, made);
    if (!e)
        e = subvolume_root(source, made, NULL);
    if (!e)
        e = failpoint("create.rootfs");
    if (!e && !a->image)
        e = copy_snapshots(job, a);
    if (!e)
        e = seeding(job, made, a->seed);
    if (!e)
        e = failpoint("create.seeded");
    if (!e && rename(made, rootfs) < 0)
        e = err_errno(errno, "cannot rename the root file system");
    if (!e)
        *ret = made_of(a);
    return e;
}

static struct err *remove_temporaries(const struct job *job, const char *dir)
{
    auto_(names_free) struct names *names = NULL;
    struct err *e = names_list(dir, &names);

    for (size_t i = 0; !e && i < names->count; i++) {
        autofree char *path = str_fmt("%s/%s", dir, names->name[i]);

        if (strncmp(names->name[i], LAYOUT_TEMPORARY, strlen(LAYOUT_TEMPORARY)) == 0)
            e = subvolume_delete(job->target.pool, path);
    }
    return e;
}

/* The run directory holds only what noded and liblxc put there; nothing in it comes from the container. */
static struct err *remove_tree(const char *path, int depth)
{
    auto_(names_free) struct names *names = NULL;
    struct err *e;

    if (unlink(path) == 0 || errno == ENOENT)
        return NULL;
    if (errno != EISDIR || depth == 0)
        return err_errno(errno, "cannot remove '%s'", path);
    e = names_list(path, &names);
    for (size_t i = 0; !e && i < names->count; i++) {
        autofree char *child = str_fmt("%s/%s", path, names->name[i]);

        e = remove_tree(child, depth - 1);
    }
    if (!e && rmdir(path) < 0 && errno != ENOENT)
        e = err_errno(errno, "cannot remove '%s'", path);
    return e;
}

struct err *job_do_destroy(const struct job *job, UNUSED void *args, UNUSED json_t **ret)
{
    autofree char *slot = layout_slot(job->target.pool, job->target.slot);
    struct err *e = stop_container(job, 0);

    if (!e)
        e = failpoint("destroy.stopped");
    if (!e)
        e = subvolume_delete(job->target.pool, slot);
    if (!e)
        e = failpoint("destroy.moved");
    /* After the root: a job that mounts it just now looks for the root afterwards. */
    if (!e)
        e = ramdisk_unmount(job->target.run_dir, job->target.slot);
    return e ? e : remove_tree(job->dir, RUN_DEPTH);
}

static struct err *has_snapshots(const char *dir, bool *ret)
{
    auto_(names_free) struct names *names = NULL;
    struct err *e = names_list(dir, &names);

    *ret = false;
    for (size_t i = 0; !e && i < names->count; i++)
        *ret = *ret || strncmp(names->name[i], LAYOUT_TEMPORARY, strlen(LAYOUT_TEMPORARY)) != 0;
    return e;
}

struct err *job_do_tidy(const struct job *job, UNUSED void *args, json_t **ret)
{
    autofree char *slot = layout_slot(job->target.pool, job->target.slot);
    autofree char *rootfs = layout_rootfs(job->target.pool, job->target.slot);
    autofree char *snapshots = layout_snapshots(job->target.pool, job->target.slot);
    struct presence p;
    struct err *e;
    bool kept;

    e = has_snapshots(snapshots, &kept);
    if (e)
        return e;
    presence_look(job, &p);
    /* A half-made or half-removed container. What has snapshots or processes is never removed for lack of a root. */
    if (!subvolume_exists(rootfs) && !kept && !p.alive)
        return job_do_destroy(job, NULL, ret);
    if (!p.alive)
        e = stop_container(job, 0);
    if (!e)
        e = remove_temporaries(job, slot);
    return e ? e : remove_temporaries(job, snapshots);
}
