/* SPDX-License-Identifier: Apache-2.0 */
#include "provisioning/confined_internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "base/fd.h"
#include "base/str.h"

#define PATH_LEN_MAX 1024
#define TEMPORARY_PREFIX ".noded-"

/* The kernel answers EAGAIN when a rename elsewhere on the host makes a ".." doubtful. */
#define RETRIES 64

int confined_open_how(int root, const char *path, int flags, uint64_t resolve)
{
    struct open_how how = {.flags = (uint64_t)(unsigned)flags | O_CLOEXEC, .resolve = resolve};
    int fd = -1;

    for (int i = 0; i < RETRIES; i++) {
        fd = (int)syscall(SYS_openat2, root, path, &how, sizeof(how));
        if (fd >= 0 || (errno != EAGAIN && errno != EINTR))
            break;
    }
    return fd;
}

static int open_inside(int root, const char *path, int flags)
{
    return confined_open_how(root, path, flags, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS);
}

/* A path split into the directory (text for openat2, "." for the root) and the last name. */
struct place {
    char dir[PATH_LEN_MAX];
    char name[PATH_LEN_MAX];
};

static struct err *place_of(const char *path, struct place *ret)
{
    const char *begin = path + strspn(path, "/");
    const char *slash = strrchr(begin, '/');
    const char *name = slash ? slash + 1 : begin;

    if (strlen(begin) >= PATH_LEN_MAX)
        return err_new(ERR_INVALID, "a path inside a root file system is too long");
    if (!*name || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
        return err_new(ERR_INVALID, "'%s' names no file", path);
    snprintf(ret->name, sizeof(ret->name), "%s", name);
    if (slash)
        snprintf(ret->dir, sizeof(ret->dir), "%.*s", (int)(slash - begin), begin);
    else
        snprintf(ret->dir, sizeof(ret->dir), ".");
    return NULL;
}

struct err *confined_open_root(const char *path, int *ret_fd)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

    if (fd < 0)
        return err_recode(err_errno(errno, "root directory '%s'", path), errno == ENOENT ? ERR_NOT_FOUND : ERR_HOST);
    *ret_fd = fd;
    return NULL;
}

struct err *confined_open_dir(int root, const char *path, int *ret_fd)
{
    int fd = confined_open_how(root, path, O_RDONLY | O_DIRECTORY, RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS);

    if (fd < 0 && errno == ELOOP)
        return err_new(ERR_NOT_FOUND, "directory '%s': a part of the path is a symbolic link", path);
    if (fd < 0) {
        bool absent = errno == ENOENT || errno == ENOTDIR;

        return err_recode(err_errno(errno, "directory '%s'", path), absent ? ERR_NOT_FOUND : ERR_HOST);
    }
    *ret_fd = fd;
    return NULL;
}

/* A name nobody inside can have prepared. */
static void temporary_name(char ret[64])
{
    uint64_t random = 0;

    if (getrandom(&random, sizeof(random), 0) != (ssize_t)sizeof(random))
        abort();
    snprintf(ret, 64, TEMPORARY_PREFIX "%016llx", (unsigned long long)random);
}

/* Puts `temporary` in the place of `name`. rename(2) refuses to replace a directory by a file: that one is exchanged
 * and removed when empty; with something in it, it stays beside under the temporary name. */
static struct err *put_in_place(int dir, const char *temporary, const char *name)
{
    int errnum;

    if (renameat(dir, temporary, dir, name) == 0)
        return NULL;
    errnum = errno;
    if (errnum == EISDIR || errnum == ENOTEMPTY || errnum == EEXIST) {
        if (renameat2(dir, temporary, dir, name, RENAME_EXCHANGE) == 0) {
            unlinkat(dir, temporary, AT_REMOVEDIR);
            return NULL;
        }
        errnum = errno;
    }
    unlinkat(dir, temporary, 0);
    return err_errno(errnum, "cannot replace '%s'", name);
}

/* Something that is no directory stands where one is needed: it gives way. The new one is made aside first. */
static struct err *replace_by_dir(int dir, const char *name)
{
    char temporary[64];

    temporary_name(temporary);
    if (mkdirat(dir, temporary, 0700) < 0)
        return err_errno(errno, "cannot make a directory");
    if (renameat2(dir, temporary, dir, name, RENAME_EXCHANGE) < 0) {
        int errnum = errno;

        unlinkat(dir, temporary, AT_REMOVEDIR);
        return err_errno(errnum, "cannot replace '%s'", name);
    }
    unlinkat(dir, temporary, 0);
    return NULL;
}

static struct err *set_meta(int fd, const char *name, mode_t mode, struct confined_owner owner)
{
    /* The owner first: chown clears set-id bits, and a wider mode must not meet the wrong owner. */
    if (fchown(fd, owner.uid, owner.gid) < 0 || fchmod(fd, mode) < 0)
        return err_errno(errno, "owner and mode of '%s'", name);
    return NULL;
}

/* One more component: `path` is everything up to it, `name` its last part, dir the directory before it. */
static struct err *descend(int root, int dir, const char *path, const char *name, mode_t mode,
                           struct confined_owner owner, int *ret_fd)
{
    autofd int fd = open_inside(root, path, O_RDONLY | O_DIRECTORY);
    struct err *e = NULL;

    if (fd < 0) {
        if (errno != ENOENT && errno != ENOTDIR && errno != ELOOP)
            return err_errno(errno, "directory '%s'", path);
        if (mkdirat(dir, name, 0700) < 0) {
            if (errno != EEXIST)
                return err_errno(errno, "cannot make directory '%s'", path);
            e = replace_by_dir(dir, name);
            if (e)
                return err_wrap(e, "directory '%s'", path);
        }
        fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0)
            return err_errno(errno, "directory '%s'", path);
        e = set_meta(fd, path, mode, owner);
        if (e)
            return e;
    }
    *ret_fd = fd_steal(&fd);
    return NULL;
}

/* Like confined_mkdirs, and opens the last one. */
static struct err *make_dirs(int root, const char *path, mode_t mode, struct confined_owner owner, int *ret_fd)
{
    autofd int dir = open_inside(root, ".", O_RDONLY | O_DIRECTORY);
    char prefix[PATH_LEN_MAX];
    const char *rest = path;
    size_t used = 0;

    if (dir < 0)
        return err_errno(errno, "root directory");
    while (*(rest += strspn(rest, "/"))) {
        size_t len = strcspn(rest, "/");
        int next = -1;
        char name[256];
        struct err *e;

        if (len >= sizeof(name) || used + len + 2 > sizeof(prefix))
            return err_new(ERR_INVALID, "a path inside a root file system is too long");
        snprintf(name, sizeof(name), "%.*s", (int)len, rest);
        used += (size_t)snprintf(prefix + used, sizeof(prefix) - used, "%s%s", used ? "/" : "", name);
        rest += len;
        e = descend(root, dir, prefix, name, mode, owner, &next);
        if (e)
            return e;
        close(dir);
        dir = next;
    }
    *ret_fd = fd_steal(&dir);
    return NULL;
}

struct err *confined_mkdirs(int root, const char *path, mode_t mode, struct confined_owner owner)
{
    autofd int dir = -1;

    return make_dirs(root, path, mode, owner, &dir);
}

/* Opens the directory of `path`, made when missing, and gives the last name. */
static struct err *open_parent(int root, const char *path, struct place *place, int *ret_dir)
{
    struct err *e = place_of(path, place);

    return e ? e : make_dirs(root, place->dir, 0755, (struct confined_owner){0, 0}, ret_dir);
}

struct err *confined_write(int root, const char *path, const void *data, size_t len, mode_t mode,
                           struct confined_owner owner)
{
    autofd int dir = -1, fd = -1;
    char temporary[64];
    struct place place;
    struct err *e = open_parent(root, path, &place, &dir);

    if (e)
        return e;
    temporary_name(temporary);
    fd = openat(dir, temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return err_errno(errno, "cannot write '%s'", path);
    e = fd_write_all(fd, data, len);
    if (!e)
        e = set_meta(fd, path, mode, owner);
    if (e)
        unlinkat(dir, temporary, 0);
    else
        e = put_in_place(dir, temporary, place.name);
    return err_wrap(e, "'%s'", path);
}

struct err *confined_symlink(int root, const char *path, const char *target)
{
    autofd int dir = -1;
    char temporary[64];
    struct place place;
    struct err *e = open_parent(root, path, &place, &dir);

    if (e)
        return e;
    temporary_name(temporary);
    if (symlinkat(target, dir, temporary) < 0)
        return err_errno(errno, "cannot make link '%s'", path);
    return put_in_place(dir, temporary, place.name);
}

/* The directory of a path that need not exist: *ret_dir stays -1 then. */
static struct err *find_parent(int root, const char *path, struct place *place, int *ret_dir)
{
    struct err *e = place_of(path, place);

    if (e)
        return e;
    *ret_dir = open_inside(root, place->dir, O_RDONLY | O_DIRECTORY);
    if (*ret_dir < 0 && errno != ENOENT && errno != ENOTDIR && errno != ELOOP)
        return err_errno(errno, "directory of '%s'", path);
    return NULL;
}

struct err *confined_remove(int root, const char *path)
{
    autofd int dir = -1;
    struct place place;
    struct err *e = find_parent(root, path, &place, &dir);

    if (e || dir < 0)
        return e;
    if (unlinkat(dir, place.name, 0) == 0 || errno == ENOENT)
        return NULL;
    if (errno == EISDIR && (unlinkat(dir, place.name, AT_REMOVEDIR) == 0 || errno == ENOENT || errno == ENOTEMPTY))
        return NULL;
    return err_errno(errno, "cannot remove '%s'", path);
}

struct err *confined_remove_prefix(int root, const char *dir_path, const char *prefix)
{
    int fd = open_inside(root, dir_path, O_RDONLY | O_DIRECTORY);
    struct err *e = NULL;
    struct dirent *entry;
    DIR *dir;

    if (fd < 0)
        return errno == ENOENT || errno == ENOTDIR || errno == ELOOP ? NULL
                                                                     : err_errno(errno, "directory '%s'", dir_path);
    dir = fdopendir(fd);
    if (!dir) {
        close(fd);
        return err_errno(ENOMEM, "directory '%s'", dir_path);
    }
    while (!e && (entry = readdir(dir)))
        if (strncmp(entry->d_name, prefix, strlen(prefix)) == 0 && unlinkat(dirfd(dir), entry->d_name, 0) < 0 &&
            errno != ENOENT && errno != EISDIR)
            e = err_errno(errno, "cannot remove '%s/%s'", dir_path, entry->d_name);
    closedir(dir);
    return e;
}

bool confined_exists(int root, const char *path)
{
    autofd int dir = -1;
    struct place place;
    struct stat st;
    autoerr e = find_parent(root, path, &place, &dir);

    return !e && dir >= 0 && fstatat(dir, place.name, &st, AT_SYMLINK_NOFOLLOW) == 0;
}
