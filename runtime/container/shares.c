/* SPDX-License-Identifier: Apache-2.0 */
#include "runtime/container/shares.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "base/failpoint.h"
#include "base/fd.h"
#include "base/str.h"
#include "provisioning/confined.h"
#include "runtime/container/idmap.h"
#include "runtime/container/presence.h"
#include "runtime/names.h"
#include "storage/layout.h"

/* It holds mount points only. */
#define TMPFS_OPTIONS "mode=0755,size=64k,nr_inodes=4096"

char *shares_path(const struct job *job)
{
    return str_fmt("%s/shares", job->dir);
}

struct err *shares_open(const struct job *job)
{
    autofree char *path = shares_path(job);
    struct err *e = fd_mkdirs(path, 0755);

    if (e || idmap_is_mount_point(path))
        return e;
    if (mount("noded-shares", path, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, TMPFS_OPTIONS) < 0 ||
        mount(NULL, path, NULL, MS_SHARED, NULL) < 0)
        return err_errno(errno, "cannot mount '%s'", path);
    return NULL;
}

/* Whoever uses it keeps what it has open, and nothing else. */
static struct err *unmount(const char *path)
{
    while (idmap_is_mount_point(path))
        if (umount2(path, UMOUNT_NOFOLLOW | MNT_DETACH) < 0)
            return err_errno(errno, "cannot unmount '%s'", path);
    if (rmdir(path) < 0 && errno != ENOENT)
        return err_errno(errno, "cannot remove '%s'", path);
    return NULL;
}

static const json_t *find(const json_t *shares, const char *id)
{
    const json_t *share;
    size_t i;

    json_array_foreach((json_t *)(uintptr_t)shares, i,
                       share) if (str_eq(json_string_value(json_object_get(share, "id")), id)) return share;
    return NULL;
}

/* The directory in the source's root file system, which its owner may change at any time: the kernel resolves the path
 * with that root as its "/" and follows no symlink out of it. */
static struct err *open_source(const struct job *job, const struct share_mount *s, int *ret_fd)
{
    autofree char *rootfs = NULL;
    autofd int root = -1;
    struct err *e;

    if (!layout_slot_ok(s->source_slot) || s->source_slot == job->target.slot)
        return err_field("source_slot", "is no other slot");
    rootfs = layout_rootfs(job->target.pool, s->source_slot);
    e = confined_open_root(rootfs, &root);
    return e ? e : confined_open_dir(root, s->path, ret_fd);
}

/* The same directory, in the same way. */
static bool is_mounted(const char *target, int source, bool readonly)
{
    struct stat here, there;
    struct statvfs fs;

    return idmap_is_mount_point(target) && stat(target, &here) == 0 && fstat(source, &there) == 0 &&
           here.st_dev == there.st_dev && here.st_ino == there.st_ino && statvfs(target, &fs) == 0 &&
           ((fs.f_flag & ST_RDONLY) != 0) == readonly;
}

static struct err *mount_one(const char *target, int source, bool readonly, int64_t id_base)
{
    struct mount_attr attr = {.attr_set = MOUNT_ATTR_IDMAP | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOSUID |
                                          (readonly ? (__u64)MOUNT_ATTR_RDONLY : 0),
                              .propagation = MS_PRIVATE};
    autofd int namespace = -1, tree = -1;
    struct err *e = idmap_namespace(id_base, &namespace);

    if (e)
        return e;
    attr.userns_fd = (__u64) namespace;
    tree = open_tree(source, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH);
    if (tree < 0 || mount_setattr(tree, "", AT_EMPTY_PATH, &attr, sizeof(attr)) < 0)
        return err_errno(errno, "cannot map the ids of the directory");
    if (mkdir(target, 0755) < 0 && errno != EEXIST)
        return err_errno(errno, "cannot make '%s'", target);
    e = failpoint("shares.mount");
    if (!e && move_mount(tree, "", AT_FDCWD, target, MOVE_MOUNT_F_EMPTY_PATH) < 0)
        e = err_errno(errno, "cannot mount '%s'", target);
    return e;
}

static struct err *agree_one(const struct job *job, int64_t id_base, const char *target, const struct share_mount *s)
{
    autofd int source = -1;
    struct err *e = open_source(job, s, &source);

    if (!e && is_mounted(target, source, s->readonly))
        return NULL;
    e = err_first(e, unmount(target));
    return e ? e : mount_one(target, source, s->readonly, id_base);
}

static struct err *remove_unwanted(const char *dir, const json_t *shares)
{
    auto_(names_free) struct names *names = NULL;
    struct err *e = names_list(dir, &names);

    for (size_t i = 0; !e && i < names->count; i++) {
        autofree char *path = str_fmt("%s/%s", dir, names->name[i]);

        if (!find(shares, names->name[i]))
            e = unmount(path);
    }
    return e;
}

struct err *shares_agree(const struct job *job, int64_t id_base, const json_t *shares, json_t **ret_problems)
{
    autofree char *dir = shares_path(job);
    autojson problems = json_object();
    struct err *e = remove_unwanted(dir, shares);
    const json_t *row;
    size_t i;

    json_array_foreach((json_t *)(uintptr_t)shares, i, row)
    {
        struct share_mount s = {0};
        autofree char *target = NULL;
        struct err *problem;

        if (!e)
            e = json_table_load(&share_mount_table, row, &s, NULL);
        if (!e && !str_is_object_id(s.id))
            e = err_field("id", "is no id of a share");
        if (!e) {
            target = str_fmt("%s/%s", dir, s.id);
            problem = agree_one(job, id_base, target, &s);
            if (problem)
                json_object_set_new(problems, s.id, json_string(err_message(problem)));
            err_free(problem);
        }
        json_table_clear(&share_mount_table, &s);
    }
    if (!e && ret_problems)
        *ret_problems = json_incref(problems);
    return e;
}

struct err *shares_renew(const struct job *job, int64_t id_base, const json_t *shares, json_t **ret_problems)
{
    autofree char *dir = shares_path(job);
    struct err *e = remove_unwanted(dir, NULL);

    return e ? e : shares_agree(job, id_base, shares, ret_problems);
}

bool shares_any(const struct job *job)
{
    autofree char *dir = shares_path(job);
    auto_(names_free) struct names *names = NULL;

    err_ignore(names_list(dir, &names));
    return names && names->count > 0;
}

struct err *shares_close(const struct job *job)
{
    autofree char *dir = shares_path(job);
    struct err *e = idmap_is_mount_point(dir) ? remove_unwanted(dir, NULL) : NULL;

    return e ? e : unmount(dir);
}

struct err *job_do_shares(const struct job *job, void *args, json_t **ret)
{
    const struct job_shares *a = args;
    autojson problems = NULL;
    struct presence p;
    struct err *e = failpoint("shares.begin");

    presence_look(job, &p);
    if (!e && p.alive)
        e = shares_open(job);
    if (!e && p.alive)
        e = shares_agree(job, a->id_base, a->shares, &problems);
    /* It may have ended meanwhile, with its stop's clean-up before these mounts. */
    presence_look(job, &p);
    if (!p.alive)
        e = err_first(e, shares_close(job));
    if (!e)
        *ret = json_pack("{s:O?}", "problems", problems);
    return e;
}
