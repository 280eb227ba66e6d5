/* SPDX-License-Identifier: Apache-2.0 */
#include "runtime/container/rootfs.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "base/failpoint.h"
#include "base/fd.h"
#include "base/str.h"
#include "runtime/container/idmap.h"
#include "runtime/container/presence.h"
#include "storage/layout.h"
#include "storage/quota.h"
#include "storage/subvolume.h"

char *rootfs_mount_point(const struct job *job)
{
    return str_fmt("%s/rootfs", job->dir);
}

bool rootfs_is_mounted(const struct job *job)
{
    autofree char *path = rootfs_mount_point(job);

    return idmap_is_mount_point(path);
}

struct err *rootfs_mount(const struct job *job, int64_t id_base)
{
    autofree char *source = layout_rootfs(job->target.pool, job->target.slot), *target = rootfs_mount_point(job);
    struct mount_attr attr = {.attr_set = MOUNT_ATTR_IDMAP | MOUNT_ATTR_NODEV, .propagation = MS_PRIVATE};
    autofd int namespace = -1, tree = -1;
    struct err *e = rootfs_unmount(job);

    if (!e)
        e = fd_mkdirs(target, 0711);
    if (!e)
        e = idmap_namespace(id_base, &namespace);
    if (e)
        return e;
    attr.userns_fd = (__u64) namespace;
    tree = open_tree(AT_FDCWD, source, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_SYMLINK_NOFOLLOW);
    if (tree < 0)
        return err_errno(errno, "cannot open '%s'", source);
    if (mount_setattr(tree, "", AT_EMPTY_PATH, &attr, sizeof(attr)) < 0)
        return err_errno(errno, "cannot map the ids of '%s'", source);
    if (move_mount(tree, "", AT_FDCWD, target, MOVE_MOUNT_F_EMPTY_PATH) < 0)
        return err_errno(errno, "cannot mount '%s'", target);
    return NULL;
}

struct err *rootfs_unmount(const struct job *job)
{
    autofree char *path = rootfs_mount_point(job);

    /* Detached: somebody on the host may look around in it. */
    while (rootfs_is_mounted(job))
        if (umount2(path, UMOUNT_NOFOLLOW | MNT_DETACH) < 0)
            return err_errno(errno, "cannot unmount '%s'", path);
    if (rmdir(path) < 0 && errno != ENOENT)
        return err_errno(errno, "cannot remove '%s'", path);
    return NULL;
}

struct err *rootfs_replace(const struct job *job, const char *made, const char *point)
{
    autofree char *rootfs = layout_rootfs(job->target.pool, job->target.slot);
    struct presence p;
    struct err *e;

    presence_look(job, &p);
    if (p.alive)
        return err_new(ERR_WRONG_STATE, "the container must be stopped for another root file system");
    e = rootfs_unmount(job);
    if (!e)
        e = subvolume_exchange(made, rootfs);
    if (!e)
        e = failpoint(point);
    /* Under the temporary name stands the old root now. */
    return e ? e : subvolume_delete(job->target.pool, made);
}

struct err *job_do_disk(const struct job *job, void *args, UNUSED json_t **ret)
{
    autofree char *rootfs = layout_rootfs(job->target.pool, job->target.slot);
    const struct job_disk *a = args;

    return a->bytes < 0 ? err_field("bytes", "must not be negative") : quota_account_limit(rootfs, a->bytes);
}
