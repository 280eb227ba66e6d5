/* SPDX-License-Identifier: Apache-2.0 */
#include "runtime/rootfs.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/failpoint.h"
#include "base/fd.h"
#include "base/str.h"
#include "runtime/presence.h"
#include "storage/layout.h"
#include "storage/subvolume.h"

#define ID_COUNT 65536

char *rootfs_mount_point(const struct job *job)
{
    return str_fmt("%s/rootfs", job->dir);
}

bool rootfs_is_mounted(const struct job *job)
{
    autofree char *path = rootfs_mount_point(job);
    struct statx stx;

    return statx(AT_FDCWD, path, AT_SYMLINK_NOFOLLOW, 0, &stx) == 0 &&
           (stx.stx_attributes & (__u64)STATX_ATTR_MOUNT_ROOT);
}

static struct err *write_map(pid_t pid, const char *file, int64_t id_base)
{
    autofree char *path = str_fmt("/proc/%d/%s", (int)pid, file);
    autofree char *map = str_fmt("0 %lld %d\n", (long long)id_base, ID_COUNT);

    return fd_write_kernel_file(path, map);
}

/* The child only holds its user namespace until the other end of the socket is closed. */
NORETURN static void hold_namespace(int fd)
{
    char c = 'r';

    _exit(unshare(CLONE_NEWUSER) == 0 && write(fd, &c, 1) == 1 && read(fd, &c, 1) == 0 ? 0 : 1);
}

/* A user namespace with the container's id map, as the kernel wants it for a mount. */
static struct err *make_namespace(int64_t id_base, int *ret_fd)
{
    autofree char *path = NULL;
    struct err *e = NULL;
    int pair[2];
    pid_t pid;
    char c;

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return err_errno(errno, "socketpair");
    pid = fork();
    if (pid == 0) {
        close(pair[0]);
        hold_namespace(pair[1]);
    }
    close(pair[1]);
    if (pid < 0)
        e = err_errno(errno, "fork");
    else if (read(pair[0], &c, 1) != 1)
        e = err_new(ERR_HOST, "the kernel makes no user namespace");
    if (!e)
        e = write_map(pid, "uid_map", id_base);
    if (!e)
        e = write_map(pid, "gid_map", id_base);
    if (!e) {
        path = str_fmt("/proc/%d/ns/user", (int)pid);
        *ret_fd = open(path, O_RDONLY | O_CLOEXEC);
        if (*ret_fd < 0)
            e = err_errno(errno, "cannot open '%s'", path);
    }
    close(pair[0]);
    if (pid > 0)
        (void)waitpid(pid, NULL, 0);
    return e;
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
        e = make_namespace(id_base, &namespace);
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
