/* SPDX-License-Identifier: Apache-2.0 */
#include "storage/pool.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/btrfs.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <mntent.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statfs.h>

#include "base/failpoint.h"
#include "base/fd.h"
#include "base/spawn.h"
#include "base/str.h"
#include "storage/layout.h"
#include "storage/loop.h"
#include "storage/subvolume.h"

#define LOOP_BYTES_MIN (INT64_C(256) << 20)
/* Containers may delete the subvolumes they made themselves. Not nosuid: the root file systems inherit it. */
#define MOUNT_OPTIONS "user_subvol_rm_allowed,discard=async"
#define MOUNT_FLAGS (MS_NOATIME | MS_NODEV)

static bool is_btrfs(const char *path)
{
    struct statfs sfs;

    return statfs(path, &sfs) == 0 && sfs.f_type == BTRFS_SUPER_MAGIC;
}

static bool is_mount_root(const char *path)
{
    struct statx stx;

    return statx(AT_FDCWD, path, AT_SYMLINK_NOFOLLOW, 0, &stx) == 0 &&
           (stx.stx_attributes & (__u64)STATX_ATTR_MOUNT_ROOT);
}

/* Copy-on-write below copy-on-write fragments the file without end. Only some file systems know the flag. */
static void set_nocow(int fd)
{
    int flags;

    if (ioctl(fd, FS_IOC_GETFLAGS, &flags) == 0) {
        flags |= FS_NOCOW_FL;
        (void)ioctl(fd, FS_IOC_SETFLAGS, &flags);
    }
}

static struct err *set_size(int fd, const char *file, int64_t bytes, bool *ret_grown)
{
    struct stat st;

    *ret_grown = false;
    if (fstat(fd, &st) < 0)
        return err_errno(errno, "'%s'", file);
    if (st.st_size >= bytes)
        return NULL;
    if (ftruncate(fd, bytes) < 0)
        return err_errno(errno, "cannot resize '%s'", file);
    *ret_grown = true;
    return NULL;
}

/*
 * Formatted under another name, so that a file with the final name always holds a file system.
 *
 * Tree nodes are as small as btrfs has them, a page: a snapshot adds a back reference to each child of the subvolume's
 * root node, and a node of 16 KiB has up to 493 children instead of 121. With 500 snapshots of one container the next
 * costs a third so (docs/DECISIONS.md).
 */
static struct err *make_file(const char *file, int64_t bytes)
{
    autofree char *tmp = str_fmt("%s.new", file);
    autofree char *node_bytes = str_fmt("%ld", MAX(4096L, sysconf(_SC_PAGESIZE)));
    const char *const argv[] = {"mkfs.btrfs", "-q", "-f", "-L", "noded", "-n", node_bytes, tmp, NULL};
    struct spawn s = SPAWN_INIT;
    autofd int fd = -1;
    struct err *e;
    bool grown;

    if (bytes < LOOP_BYTES_MIN)
        return err_new(ERR_INVALID, "a pool of %lld bytes is too small", (long long)bytes);
    if (unlink(tmp) < 0 && errno != ENOENT)
        return err_errno(errno, "cannot remove '%s'", tmp);
    fd = open(tmp, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return err_errno(errno, "cannot make '%s'", tmp);
    set_nocow(fd);
    e = set_size(fd, tmp, bytes, &grown);
    s.path = "/usr/sbin/mkfs.btrfs";
    s.argv = argv;
    if (!e)
        e = spawn_run(&s, "mkfs.btrfs");
    if (!e && (fsync(fd) < 0 || rename(tmp, file) < 0))
        e = err_errno(errno, "cannot make '%s'", file);
    return e;
}

static struct err *grow_file_system(const char *pool)
{
    struct btrfs_ioctl_vol_args args = {.name = "max"};
    autofd int fd = open(pool, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0 || ioctl(fd, BTRFS_IOC_RESIZE, &args) < 0)
        return err_errno(errno, "cannot grow the pool '%s'", pool);
    return NULL;
}

static struct err *mount_file(const char *pool, const char *file, int64_t bytes, bool must_exist)
{
    autofree char *device = NULL;
    autofd int fd = -1, backing = -1;
    bool grown = false;
    struct err *e = NULL;

    if (access(file, F_OK) < 0)
        e = must_exist ? err_new(ERR_NOT_FOUND, "the pool's file '%s' does not exist", file) : make_file(file, bytes);
    if (!e)
        e = failpoint("pool.made");
    if (e)
        return e;
    backing = open(file, O_RDWR | O_CLOEXEC);
    if (backing < 0)
        return err_errno(errno, "cannot open '%s'", file);
    e = set_size(backing, file, bytes, &grown);
    if (!e)
        e = loop_attach(file, &fd, &device);
    if (!e && mount(device, pool, "btrfs", MOUNT_FLAGS, MOUNT_OPTIONS) < 0)
        e = err_errno(errno, "cannot mount '%s' at '%s'", file, pool);
    /* Containers' mounts must not come back to the host, nor the pool's appear in other namespaces by themselves. */
    if (!e && mount(NULL, pool, NULL, MS_PRIVATE, NULL) < 0)
        e = err_errno(errno, "cannot make '%s' private", pool);
    /* Always: a crash may have come between growing the file and growing the file system. */
    return e ? e : grow_file_system(pool);
}

struct err *pool_prepare(const char *pool)
{
    autofree char *images = layout_images(pool), *kits = layout_kits(pool), *slots = layout_slots(pool);
    autofree char *trash = layout_trash(pool);
    const char *const paths[] = {images, kits, slots, trash};

    for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
        /* A container mounts its kits with its own ids: it passes through to them, and to nothing else of the pool. */
        mode_t mode = paths[i] == kits ? 0711 : 0700;
        struct err *e = fd_mkdirs(paths[i], mode);

        if (e)
            return e;
        if (chmod(paths[i], mode) < 0)
            return err_errno(errno, "'%s'", paths[i]);
    }
    return NULL;
}

struct err *pool_open(const char *pool, const char *loop_file, int64_t loop_bytes, bool must_exist, bool *ret_mounted)
{
    struct err *e = fd_mkdirs(pool, 0711);
    bool mounted;

    *ret_mounted = false;
    if (e)
        return e;
    mounted = is_btrfs(pool) && (!loop_file || is_mount_root(pool));
    if (!mounted && loop_file)
        e = mount_file(pool, loop_file, loop_bytes, must_exist);
    else if (!mounted)
        e = err_new(ERR_INVALID, "'%s' is not on btrfs and no loop file is configured", pool);
    *ret_mounted = !e && loop_file && !mounted;
    if (!e && chmod(pool, 0711) < 0)
        e = err_errno(errno, "'%s'", pool);
    return e;
}

/* The device mounted at exactly this place, or NULL. */
static char *mounted_device(const char *pool)
{
    FILE *f = setmntent("/proc/self/mounts", "re");
    char *device = NULL;
    struct mntent *m;

    while (f && (m = getmntent(f)))
        if (strcmp(m->mnt_dir, pool) == 0)
            str_set(&device, m->mnt_fsname);
    if (f)
        endmntent(f);
    return device;
}

/* Blocks are taken when they are written, but a pool that promises more than there is cannot keep it. */
static struct err *check_room(int backing, const char *loop_file, int64_t bytes)
{
    struct statfs below;

    if (fstatfs(backing, &below) < 0)
        return err_errno(errno, "'%s'", loop_file);
    if (bytes / below.f_bsize <= (int64_t)below.f_blocks)
        return NULL;
    return err_field("size_bytes", "the file system that '%s' is on has %lld MiB", loop_file,
                     (long long)below.f_blocks * below.f_bsize >> 20);
}

struct err *pool_grow(const char *pool, const char *loop_file, int64_t bytes)
{
    autofd int backing = open(loop_file, O_RDWR | O_CLOEXEC), device = -1;
    autofree char *mounted = mounted_device(pool), *attached = NULL;
    bool grown = false;
    struct err *e;

    if (backing < 0)
        return err_errno(errno, "cannot open '%s'", loop_file);
    if (!mounted || !loop_is_ours(mounted))
        return err_new(ERR_WRONG_STATE, "the pool '%s' is not mounted from '%s'", pool, loop_file);
    e = check_room(backing, loop_file, bytes);
    if (!e)
        e = set_size(backing, loop_file, bytes, &grown);
    if (!e && !grown)
        return err_field("size_bytes", "the pool has that size already; it cannot be made smaller");
    if (!e)
        e = failpoint("pool.grown");
    if (!e) /* finds the device that it is attached to, and tells it of the new size */
        e = loop_attach(loop_file, &device, &attached);
    return e ? e : grow_file_system(pool);
}

struct err *pool_close(const char *pool)
{
    autofree char *device = mounted_device(pool);

    if (!device || strncmp(device, "/dev/loop", strlen("/dev/loop")) != 0 || !loop_is_ours(device))
        return NULL;
    if (umount2(pool, UMOUNT_NOFOLLOW) == 0)
        return NULL;
    return err_recode(err_errno(errno, "cannot unmount '%s'", pool), errno == EBUSY ? ERR_WRONG_STATE : ERR_HOST);
}

struct err *pool_stat(const char *pool, struct pool_info *ret)
{
    autofree char *device = mounted_device(pool);
    struct statfs sfs;

    if (statfs(pool, &sfs) < 0)
        return err_errno(errno, "'%s'", pool);
    ret->total_bytes = (int64_t)sfs.f_blocks * sfs.f_bsize;
    ret->free_bytes = (int64_t)sfs.f_bavail * sfs.f_bsize;
    ret->loop_device = device && strncmp(device, "/dev/loop", strlen("/dev/loop")) == 0 ? steal(&device) : NULL;
    return NULL;
}

void pool_info_done(struct pool_info *info)
{
    free(info->loop_device);
    info->loop_device = NULL;
}
