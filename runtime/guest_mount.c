/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ramdisk of a running container comes and goes by a child in the container's mount namespace. The child touches
 * nothing of the container but by file descriptors and one name without a slash, and says how it went by its exit
 * status: an errno.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "base/failpoint.h"
#include "base/fd.h"
#include "base/str.h"
#include "provisioning/confined.h"
#include "provisioning/ramdisk.h"
#include "runtime/guest.h"
#include "storage/layout.h"

#define NAME "ramdisk" /* in the container's root */
#define LAYERS_MAX 16  /* mounts upon mounts */

static int open_target(int root)
{
    struct open_how how = {.flags = O_PATH | O_DIRECTORY | O_CLOEXEC,
                           .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS};

    return (int)syscall(SYS_openat2, root, NAME, &how, sizeof(how));
}

static bool is_mount(int fd)
{
    struct statx stx;

    return statx(fd, "", AT_EMPTY_PATH, 0, &stx) == 0 && (stx.stx_attributes & (__u64)STATX_ATTR_MOUNT_ROOT);
}

static int attach(int root, int tree)
{
    autofd int target = open_target(root);

    if (target < 0)
        return errno;
    if (is_mount(target))
        return 0;
    return move_mount(tree, "", target, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) < 0 ? errno : 0;
}

static int detach(int root)
{
    if (fchdir(root) < 0)
        return errno;
    for (int i = 0; i < LAYERS_MAX; i++) {
        autofd int target = open_target(root);

        if (target < 0) /* no directory: nothing of ours is mounted there */
            return errno == ENOENT || errno == ELOOP || errno == ENOTDIR ? 0 : errno;
        if (!is_mount(target))
            return 0;
        if (umount2(NAME, MNT_DETACH | UMOUNT_NOFOLLOW) < 0)
            return errno;
    }
    return EBUSY;
}

/* tree -1: detach. */
NORETURN static void work_inside(int namespace, int tree)
{
    autofd int root = -1;

    if (setns(namespace, CLONE_NEWNS) < 0)
        _exit(errno);
    root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (root < 0)
        _exit(errno);
    _exit(tree >= 0 ? attach(root, tree) : detach(root));
}

static struct err *run_inside(pid_t init, int tree)
{
    autofree char *path = str_fmt("/proc/%d/ns/mnt", (int)init);
    autofd int namespace = open(path, O_RDONLY | O_CLOEXEC);
    int status;
    pid_t child;

    if (namespace < 0)
        return err_errno(errno, "cannot open '%s'", path);
    child = fork();
    if (child < 0)
        return err_errno(errno, "fork");
    if (child == 0)
        work_inside(namespace, tree);
    while (waitpid(child, &status, 0) < 0)
        if (errno != EINTR)
            return err_errno(errno, "waitpid");
    if (!WIFEXITED(status))
        return err_new(ERR_HOST, "the process in the container's namespace was killed");
    return WEXITSTATUS(status) ? err_errno(WEXITSTATUS(status), "cannot %s the ramdisk inside the container",
                                           tree >= 0 ? "mount" : "unmount")
                               : NULL;
}

/* The directory is made from outside: in the container's namespace nobody of the host may write. */
static struct err *make_mount_point(const struct job *job)
{
    autofree char *rootfs = layout_rootfs(job->target.pool, job->target.slot);
    autofd int fd = -1;
    struct err *e = confined_open_root(rootfs, &fd);

    return e ? e : confined_mkdirs(fd, "/" NAME, 0755, (struct confined_owner){0, 0});
}

static struct err *give(const struct job *job, const struct job_ramdisk *a, pid_t init)
{
    autofree char *path = ramdisk_path(job->target.run_dir, job->target.slot);
    autofd int tree = -1;
    struct err *e = ramdisk_mount(job->target.run_dir, job->target.slot, a->bytes, (uid_t)a->id_base);

    if (!e)
        e = failpoint("ramdisk.mounted");
    if (e || !init)
        return e;
    e = make_mount_point(job);
    if (e)
        return e;
    tree = open_tree(AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
    if (tree < 0)
        return err_errno(errno, "cannot open '%s'", path);
    return run_inside(init, tree);
}

struct err *job_do_ramdisk_set(const struct job *job, void *args, UNUSED json_t **ret)
{
    const struct job_ramdisk *a = args;
    autofd int live = -1;
    pid_t init = 0;
    struct err *e = guest_open_live(job, &live, &init);

    if (e && e->code == ERR_WRONG_STATE) {
        err_free(e);
        e = NULL;
    }
    if (e)
        return e;
    if (a->bytes > 0)
        return give(job, a, init);
    if (init)
        e = run_inside(init, -1);
    return e ? e : ramdisk_unmount(job->target.run_dir, job->target.slot);
}
