/* SPDX-License-Identifier: Apache-2.0 */
#include "provisioning/ramdisk.h"

#include <errno.h>
#include <linux/magic.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "base/failpoint.h"
#include "base/fd.h"
#include "base/str.h"

/* Inodes are kernel memory that the size does not count: one per this many bytes. */
#define BYTES_PER_INODE 8192
#define INODES_MIN 1024

char *ramdisk_path(const char *run_dir, int64_t slot)
{
    return str_fmt("%s/c%lld/ramdisk", run_dir, (long long)slot);
}

static bool is_mounted(const char *path)
{
    autofree char *above = str_fmt("%s/..", path);
    struct stat here, parent;
    struct statfs fs;

    return stat(path, &here) == 0 && stat(above, &parent) == 0 && here.st_dev != parent.st_dev &&
           statfs(path, &fs) == 0 && fs.f_type == TMPFS_MAGIC;
}

bool ramdisk_mounted(const char *run_dir, int64_t slot)
{
    autofree char *path = ramdisk_path(run_dir, slot);

    return is_mounted(path);
}

int64_t ramdisk_used(const char *path)
{
    struct statfs fs;

    return is_mounted(path) && statfs(path, &fs) == 0 ? (int64_t)(fs.f_blocks - fs.f_bfree) * (int64_t)fs.f_bsize : -1;
}

static struct err *mount_at(const char *path, int64_t bytes, uid_t owner_uid)
{
    autofree char *options = NULL;
    unsigned long flags = MS_NOSUID | MS_NODEV;
    struct err *e = fd_mkdirs(path, 0700);

    if (!e)
        e = failpoint("ramdisk.mount");
    if (e)
        return err_wrap(e, "ramdisk");
    options = str_fmt("mode=1777,uid=%u,gid=%u,size=%lld,nr_inodes=%lld", owner_uid, owner_uid, (long long)bytes,
                      (long long)MAX(bytes / BYTES_PER_INODE, INODES_MIN));
    if (is_mounted(path))
        flags |= MS_REMOUNT;
    if (mount("noded-ramdisk", path, "tmpfs", flags, options) == 0)
        return NULL;
    /* What is in it does not fit: it stays as large as it is, until it does. */
    if (errno == EINVAL && (flags & MS_REMOUNT))
        return NULL;
    return err_errno(errno, "ramdisk of %lld bytes", (long long)bytes);
}

static struct err *unmount_at(const char *path)
{
    while (is_mounted(path))
        if (umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW) < 0)
            return err_errno(errno, "cannot unmount the ramdisk");
    if (rmdir(path) < 0 && errno != ENOENT)
        return err_errno(errno, "mount point of the ramdisk");
    return NULL;
}

struct err *ramdisk_mount(const char *run_dir, int64_t slot, int64_t bytes, uid_t owner_uid)
{
    autofree char *path = ramdisk_path(run_dir, slot);

    return mount_at(path, bytes, owner_uid);
}

struct err *ramdisk_unmount(const char *run_dir, int64_t slot)
{
    autofree char *path = ramdisk_path(run_dir, slot);

    return unmount_at(path);
}

char *ramdisk_project_path(const char *run_dir, const char *project_id)
{
    return str_fmt("%s/p%s", run_dir, project_id);
}

struct err *ramdisk_project_mount(const char *run_dir, const char *project_id, int64_t bytes)
{
    autofree char *path = ramdisk_project_path(run_dir, project_id);

    return mount_at(path, bytes, 0);
}

struct err *ramdisk_project_unmount(const char *run_dir, const char *project_id)
{
    autofree char *path = ramdisk_project_path(run_dir, project_id);

    return unmount_at(path);
}
