/* SPDX-License-Identifier: Apache-2.0 */
#include "storage/nested.h"

#include <btrfsutil.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/btrfs.h>
#include <linux/btrfs_tree.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/str.h"

struct nested {
    char **paths; /* below the root; parents before what is in them */
    uint64_t *ids;
    size_t count;
};

static void nested_clear(struct nested *n)
{
    for (size_t i = 0; i < n->count; i++)
        free(n->paths[i]);
    free(n->paths);
    free(n->ids);
}

/* what: for messages. Takes over the iterator. */
static struct err *collect(enum btrfs_util_error rc, struct btrfs_util_subvolume_iterator *it, const char *what,
                           size_t max, struct nested *ret)
{
    char *path;
    uint64_t id;

    while (rc == BTRFS_UTIL_OK && ret->count < max) {
        rc = btrfs_util_subvolume_iterator_next(it, &path, &id);
        if (rc != BTRFS_UTIL_OK)
            break;
        ret->paths = mem_grow(ret->paths, ret->count + 1, sizeof(char *));
        ret->ids = mem_grow(ret->ids, ret->count + 1, sizeof(*ret->ids));
        ret->paths[ret->count] = path;
        ret->ids[ret->count++] = id;
    }
    btrfs_util_destroy_subvolume_iterator(it);
    if (rc == BTRFS_UTIL_OK || rc == BTRFS_UTIL_ERROR_STOP_ITERATION)
        return NULL;
    return err_errno(errno, "cannot list the subvolumes below '%s'", what);
}

static struct err *list(const char *subvolume, size_t max, struct nested *ret)
{
    struct btrfs_util_subvolume_iterator *it = NULL;
    enum btrfs_util_error rc = btrfs_util_create_subvolume_iterator(subvolume, 0, 0, &it);

    return collect(rc, it, subvolume, max, ret);
}

static struct err *list_fd(int subvolume, size_t max, struct nested *ret)
{
    struct btrfs_util_subvolume_iterator *it = NULL;
    enum btrfs_util_error rc = btrfs_util_create_subvolume_iterator_fd(subvolume, 0, 0, &it);

    return collect(rc, it, "a subvolume", max, ret);
}

struct err *nested_exist(const char *subvolume, bool *ret)
{
    __attribute__((cleanup(nested_clear))) struct nested n = {0};
    struct err *e = list(subvolume, 1, &n);

    *ret = n.count > 0;
    return e;
}

static int open_below(int root, const char *path)
{
    struct open_how how = {.flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC,
                           .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV};

    return (int)syscall(SYS_openat2, root, *path ? path : ".", &how, sizeof(how));
}

/* Gone, moved, or something else stands there: all the same to a snapshot. */
static bool is_missing(int errnum)
{
    return errnum == ENOENT || errnum == ENOTDIR || errnum == ELOOP || errnum == EXDEV || errnum == EAGAIN;
}

/* -1: not there any more. */
static struct err *open_listed(int root, const char *path, uint64_t id, int *ret)
{
    autofd int fd = open_below(root, path);
    uint64_t found = 0;

    *ret = -1;
    if (fd < 0)
        return is_missing(errno) ? NULL : err_errno(errno, "subvolume '%s'", path);
    if (btrfs_util_is_subvolume_fd(fd) != BTRFS_UTIL_OK)
        return NULL;
    if (btrfs_util_subvolume_id_fd(fd, &found) != BTRFS_UTIL_OK)
        return err_errno(errno, "subvolume '%s'", path);
    if (found == id)
        *ret = fd_steal(&fd);
    return NULL;
}

static struct err *snapshot_one(int from, int parent, const char *name, const char *path)
{
    struct btrfs_ioctl_vol_args_v2 args = {.fd = from};
    struct stat st, around;

    if (fstat(parent, &around) < 0)
        return err_errno(errno, "the directory of the subvolume '%s'", path);
    if (fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || st.st_ino != BTRFS_EMPTY_SUBVOL_DIR_OBJECTID)
        return NULL; /* it came later than the snapshot that we complete */
    if (unlinkat(parent, name, AT_REMOVEDIR) < 0)
        return err_errno(errno, "cannot make room for the subvolume '%s'", path);
    snprintf(args.name, sizeof(args.name), "%s", name);
    if (ioctl(parent, BTRFS_IOC_SNAP_CREATE_V2, &args) < 0)
        return err_errno(errno, "cannot take a snapshot of the subvolume '%s'", path);
    if (futimens(parent, (struct timespec[2]){around.st_atim, around.st_mtim}) < 0)
        return err_errno(errno, "the times of the directory of '%s'", path);
    return NULL;
}

/* *ret_readonly: the original is, so its snapshot shall be. */
static struct err *copy_one(int src, int dst, const char *path, uint64_t id, bool *ret_readonly)
{
    autofree char *dir = str_dup(path);
    char *slash = strrchr(dir, '/');
    autofd int from = -1, parent = -1;
    struct err *e = open_listed(src, path, id, &from);

    *ret_readonly = false;
    if (e || from < 0)
        return e;
    *(slash ? slash : dir) = '\0';
    parent = open_below(dst, dir);
    if (parent < 0)
        return is_missing(errno) ? NULL : err_errno(errno, "subvolume '%s'", path);
    if (btrfs_util_get_subvolume_read_only_fd(from, ret_readonly) != BTRFS_UTIL_OK)
        return err_errno(errno, "subvolume '%s'", path);
    return snapshot_one(from, parent, slash ? slash + 1 : path, path);
}

/* Nothing when it is not there. */
static struct err *set_readonly(int root, const char *path, bool readonly)
{
    autofd int fd = open_below(root, path);

    if (fd < 0 || btrfs_util_is_subvolume_fd(fd) != BTRFS_UTIL_OK)
        return NULL;
    return btrfs_util_set_subvolume_read_only_fd(fd, readonly) == BTRFS_UTIL_OK
               ? NULL
               : err_errno(errno, "cannot make the subvolume '%s' %s", path, readonly ? "read-only" : "writable");
}

struct err *nested_snapshot(const char *src, const char *dst)
{
    __attribute__((cleanup(nested_clear))) struct nested n = {0};
    struct err *e = list(src, NESTED_MAX + 1, &n);
    autofree bool *readonly = mem_new_array(bool, n.count + 1);
    autofd int from = -1, to = -1;

    if (e || n.count == 0)
        return e;
    if (n.count > NESTED_MAX)
        return err_new(ERR_LIMIT, "there are more than %d subvolumes below '%s'", NESTED_MAX, src);
    from = open(src, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    to = open(dst, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (from < 0 || to < 0)
        return err_errno(errno, "'%s'", from < 0 ? src : dst);
    for (size_t i = 0; !e && i < n.count; i++)
        e = copy_one(from, to, n.paths[i], n.ids[i], &readonly[i]);
    /* Only now: others may have been put into them. */
    for (size_t i = 0; !e && i < n.count; i++)
        if (readonly[i])
            e = set_readonly(to, n.paths[i], true);
    return e;
}

/* Only a placeholder; a directory of that name that somebody has made is left. */
static struct err *remove_place(int root, const char *path)
{
    autofree char *dir = str_dup(path);
    char *slash = strrchr(dir, '/');
    const char *name = slash ? path + (slash - dir) + 1 : path;
    autofd int parent = -1;
    struct stat st;

    *(slash ? slash : dir) = '\0';
    parent = open_below(root, dir);
    if (parent < 0)
        return is_missing(errno) ? NULL : err_errno(errno, "subvolume '%s'", path);
    if (fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || st.st_ino != BTRFS_EMPTY_SUBVOL_DIR_OBJECTID)
        return NULL;
    return unlinkat(parent, name, AT_REMOVEDIR) < 0 ? err_errno(errno, "subvolume '%s'", path) : NULL;
}

struct err *nested_remove_places(int src, int dst)
{
    __attribute__((cleanup(nested_clear))) struct nested n = {0};
    struct err *e = list_fd(src, NESTED_MAX + 1, &n);

    for (size_t i = 0; !e && i < n.count; i++)
        e = remove_place(dst, n.paths[i]);
    return e;
}

struct err *nested_each(const char *root, nested_each_fn *each, void *owner)
{
    __attribute__((cleanup(nested_clear))) struct nested n = {0};
    struct err *e = list(root, NESTED_MAX + 1, &n);

    if (!e && n.count > NESTED_MAX)
        return err_new(ERR_LIMIT, "there are more than %d subvolumes below '%s'", NESTED_MAX, root);
    for (size_t i = 0; !e && i < n.count; i++) {
        autofree char *path = str_fmt("%s/%s", root, n.paths[i]);
        bool readonly = false;

        if (btrfs_util_get_subvolume_read_only(path, &readonly) != BTRFS_UTIL_OK)
            return err_errno(errno, "subvolume '%s'", path);
        e = each(owner, n.paths[i], readonly);
    }
    return e;
}

int nested_open_dir(int root, const char *path)
{
    return open_below(root, path);
}

int nested_open(int root, const char *path)
{
    int fd = open_below(root, path);

    if (fd >= 0 && btrfs_util_is_subvolume_fd(fd) != BTRFS_UTIL_OK) {
        close(fd);
        fd = -1;
    }
    return fd;
}

struct err *nested_set_readonly(const char *root, bool to)
{
    __attribute__((cleanup(nested_clear))) struct nested n = {0};
    autofd int fd = open(root, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    struct err *e = fd < 0 ? err_errno(errno, "'%s'", root) : list(root, NESTED_MAX + 1, &n);

    for (size_t i = 0; !e && i < n.count; i++)
        e = set_readonly(fd, n.paths[i], to);
    return e;
}

struct err *nested_destroy(const char *subvolume)
{
    __attribute__((cleanup(nested_clear))) struct nested n = {0};
    autofd int root = open(subvolume, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    struct err *e;

    if (root < 0)
        return errno == ENOENT ? NULL : err_errno(errno, "'%s'", subvolume);
    e = list(subvolume, SIZE_MAX, &n);
    /* A read-only one cannot lose what is in it. Parents come first, so the way is open to each. */
    if (!e && n.count)
        e = set_readonly(root, "", false);
    for (size_t i = 0; !e && i < n.count; i++)
        e = set_readonly(root, n.paths[i], false);
    if (!e && btrfs_util_delete_subvolume(subvolume, BTRFS_UTIL_DELETE_SUBVOLUME_RECURSIVE) != BTRFS_UTIL_OK &&
        errno != ENOENT)
        e = err_errno(errno, "cannot destroy the subvolume '%s'", subvolume);
    return e;
}
