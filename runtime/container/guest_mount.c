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
#include "runtime/container/guest.h"
#include "runtime/container/idmap.h"
#include "runtime/container/presence.h"
#include "runtime/names.h"
#include "storage/layout.h"
#include "storage/subvolume.h"

#define LAYERS_MAX 16 /* mounts upon mounts */

const struct guest_place guest_ramdisk_place = {".", "ramdisk"}, guest_shared_ramdisk_place = {"ramdisk", "project"};

static int open_beneath(int root, const char *name)
{
    struct open_how how = {.flags = O_PATH | O_DIRECTORY | O_CLOEXEC,
                           .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS};

    return (int)syscall(SYS_openat2, root, name, &how, sizeof(how));
}

static bool is_mount(int fd)
{
    struct statx stx;

    /* Without a question to the file system: it may be one that does not answer. */
    return statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, 0, &stx) == 0 &&
           (stx.stx_attributes & (__u64)STATX_ATTR_MOUNT_ROOT);
}

static int attach(int dir, const char *name, int tree)
{
    autofd int target = open_beneath(dir, name);

    if (target < 0)
        return errno;
    if (is_mount(target))
        return 0;
    return move_mount(tree, "", target, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) < 0 ? errno : 0;
}

/* No directory: nothing of ours is mounted there. */
static bool is_elsewhere(int errnum)
{
    return errnum == ENOENT || errnum == ELOOP || errnum == ENOTDIR;
}

static int detach(int dir, const char *name)
{
    if (fchdir(dir) < 0)
        return errno;
    for (int i = 0; i < LAYERS_MAX; i++) {
        autofd int target = open_beneath(dir, name);

        if (target < 0)
            return is_elsewhere(errno) ? 0 : errno;
        if (!is_mount(target))
            return 0;
        if (umount2(name, MNT_DETACH | UMOUNT_NOFOLLOW) < 0)
            return errno;
    }
    return EBUSY;
}

/* tree -1: detach. */
NORETURN static void work_inside(int namespace, const struct guest_place *place, int tree)
{
    autofd int root = -1, dir = -1;

    if (setns(namespace, CLONE_NEWNS) < 0)
        _exit(errno);
    root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (root < 0)
        _exit(errno);
    dir = open_beneath(root, place->dir);
    if (dir < 0)
        _exit(tree < 0 && is_elsewhere(errno) ? 0 : errno);
    _exit(tree >= 0 ? attach(dir, place->name, tree) : detach(dir, place->name));
}

/* A directory that the child would wait in for an answer is passed over. It may come in between; then the job's
 * deadline ends what waits for the child. */
static struct err *check_place(pid_t init, const struct guest_place *place, bool *ret_there)
{
    autolive live = LIVE_NONE;
    struct err *e = live_open(init, &live);

    *ret_there = !e && live_exists(&live, place->dir);
    return e;
}

static struct err *run_inside(pid_t init, const struct guest_place *place, int tree)
{
    autofree char *path = str_fmt("/proc/%d/ns/mnt", (int)init);
    autofd int namespace = open(path, O_RDONLY | O_CLOEXEC);
    bool there = false;
    struct err *e = check_place(init, place, &there);
    int status;
    pid_t child;

    if (!e && !there && tree >= 0)
        e = err_new(ERR_HOST, "/%s inside the container is no directory to mount in", place->dir);
    if (e || !there)
        return e;
    if (namespace < 0)
        return err_errno(errno, "cannot open '%s'", path);
    child = fork();
    if (child < 0)
        return err_errno(errno, "fork");
    if (child == 0)
        work_inside(namespace, place, tree);
    while (waitpid(child, &status, 0) < 0)
        if (errno != EINTR)
            return err_errno(errno, "waitpid");
    if (!WIFEXITED(status))
        return err_new(ERR_HOST, "the process in the container's namespace was killed");
    return WEXITSTATUS(status) ? err_errno(WEXITSTATUS(status), "cannot %s /%s/%s inside the container",
                                           tree >= 0 ? "mount" : "unmount", place->dir, place->name)
                               : NULL;
}

struct err *guest_attach(pid_t init, const struct guest_place *place, int tree)
{
    return run_inside(init, place, tree);
}

struct err *guest_clone(const char *path, struct mount_attr attr, int *ret_tree)
{
    autofd int tree = open_tree(AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_SYMLINK_NOFOLLOW);

    if (tree < 0 || mount_setattr(tree, "", AT_EMPTY_PATH, &attr, sizeof(attr)) < 0)
        return err_errno(errno, "cannot copy the mount '%s'", path);
    *ret_tree = fd_steal(&tree);
    return NULL;
}

/* The directory is made from outside: in the container's namespace nobody of the host may write. */
static struct err *make_mount_point(const struct job *job)
{
    autofree char *rootfs = layout_rootfs(job->target.pool, job->target.slot);
    autofd int fd = -1;
    struct err *e = confined_open_root(rootfs, &fd);

    return e ? e : confined_mkdirs(fd, guest_ramdisk_place.name, 0755, (struct confined_owner){0, 0});
}

struct err *guest_give_ramdisk(const struct job *job, int64_t bytes, int64_t id_base, pid_t init)
{
    autofree char *path = ramdisk_path(job->target.run_dir, job->target.slot);
    autofd int tree = -1;
    struct err *e = ramdisk_mount(job->target.run_dir, job->target.slot, bytes, (uid_t)id_base);

    if (!e)
        e = failpoint("ramdisk.mounted");
    if (e || !init)
        return e;
    e = make_mount_point(job);
    /* Private: what the container mounts in it is not to be seen on the host. */
    if (!e)
        e = guest_clone(path, (struct mount_attr){.propagation = MS_PRIVATE}, &tree);
    return e ? e : run_inside(init, &guest_ramdisk_place, tree);
}

/* In the container's ramdisk, which is the container's to write: a name without a slash, never followed. */
static struct err *make_shared_mount_point(const struct job *job, int64_t id_base)
{
    autofree char *path = ramdisk_path(job->target.run_dir, job->target.slot);
    autofd int dir = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

    if (dir < 0)
        return err_errno(errno, "'%s'", path);
    if (mkdirat(dir, guest_shared_ramdisk_place.name, 0755) == 0)
        return fchownat(dir, guest_shared_ramdisk_place.name, (uid_t)id_base, (gid_t)id_base, AT_SYMLINK_NOFOLLOW) < 0
                   ? err_errno(errno, "mount point of the shared ramdisk")
                   : NULL;
    return errno == EEXIST ? NULL : err_errno(errno, "mount point of the shared ramdisk");
}

struct err *guest_share_ramdisk(const struct job *job, const char *project, int64_t bytes, int64_t id_base, pid_t init)
{
    struct mount_attr attr = {.attr_set = MOUNT_ATTR_IDMAP | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOSUID,
                              .propagation = MS_PRIVATE};
    autofree char *path = ramdisk_project_path(job->target.run_dir, project);
    autofd int namespace = -1, tree = -1;
    struct err *e = ramdisk_project_mount(job->target.run_dir, project, bytes);

    if (!e)
        e = make_shared_mount_point(job, id_base);
    if (!e)
        e = idmap_namespace(id_base, &namespace);
    if (e)
        return e;
    attr.userns_fd = (__u64) namespace;
    e = guest_clone(path, attr, &tree);
    return e ? e : run_inside(init, &guest_shared_ramdisk_place, tree);
}

/* A deletion may have come in between: it removes the root, then the ramdisk. What is mounted after that is ours to
 * remove. */
static struct err *check_still_there(const struct job *job)
{
    autofree char *rootfs = layout_rootfs(job->target.pool, job->target.slot);
    struct err *e;

    if (subvolume_exists(rootfs))
        return NULL;
    e = ramdisk_unmount(job->target.run_dir, job->target.slot);
    (void)rmdir(job->dir);
    return err_first(e, err_new(ERR_NOT_FOUND, "the container is gone"));
}

struct err *job_do_ramdisk_set(const struct job *job, void *args, UNUSED json_t **ret)
{
    const struct job_ramdisk *a = args;
    struct err *e = NULL;
    struct presence p;

    presence_look(job, &p);
    if (a->bytes > 0)
        e = guest_give_ramdisk(job, a->bytes, a->id_base, p.init);
    else if (p.init)
        e = run_inside(p.init, &guest_ramdisk_place, -1); /* with what is mounted in it */
    if (!e && p.init && a->bytes > 0)
        e = a->project ? guest_share_ramdisk(job, a->project, a->bytes, a->id_base, p.init)
                       : run_inside(p.init, &guest_shared_ramdisk_place, -1);
    if (!e && a->bytes == 0)
        e = ramdisk_unmount(job->target.run_dir, job->target.slot);
    return err_first(check_still_there(job), e);
}

struct err *job_do_ramdisk_drop(const struct job *job, void *args, UNUSED json_t **ret)
{
    const struct job_ramdisk_drop *a = args;
    auto_(names_free) struct names *names = NULL;
    struct err *e = names_list(job->target.run_dir, &names);

    for (size_t i = 0; !e && i < names->count; i++) {
        const char *id = names->name[i] + 1;

        if (names->name[i][0] == 'p' && str_is_object_id(id) && !json_has_string(a->keep, id) &&
            (!a->project || str_eq(a->project, id)))
            e = ramdisk_project_unmount(job->target.run_dir, id);
    }
    return e;
}
