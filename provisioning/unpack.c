/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The last opened parent directory is kept: archives list a directory's members together, so most entries cost one
 * openat. Times and modes of directories are set at the end, backwards, because writing members changes them.
 */
#include "provisioning/unpack.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "base/fd.h"
#include "base/str.h"
#include "provisioning/tree_digest.h"

#define XATTR_MAX 65536
#define RATIO_FREE (INT64_C(256) << 20)
#define ID_MAX 65535

struct late_dir {
    char *path;
    mode_t mode;
    struct timespec mtime;
    struct archive_entry *attributes; /* NULL: none; what is made in it would inherit them */
};

struct unpack {
    struct archive *a;
    const struct unpack_rules *rules;
    int root;
    int parent; /* open directory of parent_path, or -1 */
    char parent_path[UNPACK_PATH_SIZE];
    struct late_dir *dirs;
    size_t dir_count, dir_size;
    int64_t entries, bytes;
    struct unpack_entry now;
};

/* Opens a directory part by part from the root, never through a symlink; with `make`, makes what is missing. */
static int walk(int root, const char *path, bool make)
{
    int dir = openat(root, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    while (dir >= 0 && *path) {
        size_t len = strcspn(path, "/");
        char part[256];
        int next;

        snprintf(part, sizeof(part), "%.*s", (int)len, path);
        path += len + strspn(path + len, "/");
        if (make && mkdirat(dir, part, 0755) < 0 && errno != EEXIST) {
            fd_closep(&dir);
            return -1;
        }
        next = openat(dir, part, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        fd_closep(&dir);
        dir = next;
    }
    return dir;
}

/* Sets u->parent to the directory of an entry and gives the entry's own name. */
static struct err *enter_parent(struct unpack *u, const char *path, const char **ret_name)
{
    const char *slash = strrchr(path, '/');
    size_t len = slash ? (size_t)(slash - path) : 0;

    *ret_name = slash ? slash + 1 : path;
    if (u->parent >= 0 && strncmp(path, u->parent_path, len) == 0 && u->parent_path[len] == '\0')
        return NULL;
    fd_closep(&u->parent);
    snprintf(u->parent_path, sizeof(u->parent_path), "%.*s", (int)len, path);
    u->parent = walk(u->root, u->parent_path, true);
    if (u->parent < 0)
        return err_recode(err_errno(errno, "its path leads through something that is no directory"), ERR_INVALID);
    return NULL;
}

static struct err *archive_failed(struct archive *a, const char *what)
{
    const char *text = archive_error_string(a);

    return err_new(ERR_INVALID, "%s: %s", what, text ? text : "damaged archive");
}

static struct err *too_much(const struct unpack *u)
{
    return err_new(ERR_TOO_LARGE, "more than %lld bytes when unpacked", (long long)u->rules->max_bytes);
}

static struct err *no_room(int errnum)
{
    if (errnum == ENOSPC || errnum == EDQUOT)
        return err_new(ERR_HOST, "the storage pool is full: see 'nodectl storage show' and 'nodectl storage grow'");
    return err_errno(errnum, "write");
}

static struct err *copy_data(struct unpack *u, int fd)
{
    for (;;) {
        const void *block;
        size_t len;
        la_int64_t offset;
        int r = archive_read_data_block(u->a, &block, &len, &offset);

        if (r == ARCHIVE_EOF)
            return NULL;
        if (r != ARCHIVE_OK)
            return archive_failed(u->a, "reading");
        u->bytes += (int64_t)len;
        if (u->rules->max_ratio > 0 && u->bytes > RATIO_FREE &&
            u->bytes / u->rules->max_ratio > archive_filter_bytes(u->a, -1))
            return err_new(ERR_TOO_LARGE, "more than %d times its size when unpacked", u->rules->max_ratio);
        if (u->now.digest)
            tree_digest_data(u->now.digest, block, len);
        if (u->bytes > u->rules->max_bytes)
            return too_much(u);
        while (len) {
            ssize_t n = pwrite(fd, block, len, (off_t)offset);

            if (n < 0 && errno == EINTR)
                continue;
            if (n < 0)
                return no_room(errno);
            block = (const char *)block + n;
            len -= (size_t)n;
            offset += n;
        }
    }
}

static struct err *copy_xattrs(struct archive_entry *entry, int fd)
{
    const char *name;
    const void *value;
    size_t len;

    archive_entry_xattr_reset(entry);
    while (archive_entry_xattr_next(entry, &name, &value, &len) == ARCHIVE_OK) {
        if (!tree_keeps_attribute(name))
            continue;
        if (len > XATTR_MAX)
            return err_new(ERR_TOO_LARGE, "an attribute is too large");
        if (fsetxattr(fd, name, value, len, 0) < 0)
            return errno == ENOSPC || errno == EDQUOT
                       ? no_room(errno)
                       : err_recode(err_errno(errno, "attribute '%s'", name), ERR_INVALID);
    }
    return NULL;
}

/* What the entry wants to be, as far as the rules allow. */
struct wanted {
    uid_t uid;
    gid_t gid;
    mode_t mode;
    struct timespec mtime;
};

static struct err *wanted_of(const struct unpack *u, struct archive_entry *entry, struct wanted *ret)
{
    mode_t mode = archive_entry_mode(entry) & 07777;
    la_int64_t uid = archive_entry_uid(entry), gid = archive_entry_gid(entry);

    *ret = (struct wanted){.mode = mode, .mtime.tv_sec = (time_t)archive_entry_mtime(entry)};
    if (!u->rules->whole_system) {
        if (mode & 07000)
            return err_new(ERR_INVALID, "set-id bits are refused");
        /* Readable by everyone: in a container its owner is nobody. Never writable by anyone but root. */
        ret->mode = (mode & 0755) | 0444 | (S_ISDIR(archive_entry_mode(entry)) ? 0111 : 0);
        return NULL;
    }
    if (uid < 0 || uid > ID_MAX || gid < 0 || gid > ID_MAX)
        return err_new(ERR_INVALID, "an owner is outside 0..%d", ID_MAX);
    ret->uid = (uid_t)uid;
    ret->gid = (gid_t)gid;
    return NULL;
}

static struct err *cannot_make(int errnum)
{
    if (errnum == EEXIST)
        return err_new(ERR_INVALID, "a duplicate: there is something of this name");
    return err_errno(errnum, "cannot make it");
}

static struct err *make_file(struct unpack *u, struct archive_entry *entry, const char *name, const struct wanted *w)
{
    struct timespec times[2] = {w->mtime, w->mtime};
    autofd int fd = openat(u->parent, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    struct err *e;

    if (fd < 0)
        return cannot_make(errno);
    e = copy_data(u, fd);
    if (e)
        return e;
    /* A hole at the end of a sparse file comes with no data. */
    if (archive_entry_size(entry) > u->rules->max_bytes || ftruncate(fd, (off_t)archive_entry_size(entry)) < 0)
        return err_new(ERR_TOO_LARGE, "too large");
    if ((w->uid || w->gid) && fchown(fd, w->uid, w->gid) < 0)
        return err_errno(errno, "owner");
    if (u->rules->whole_system && (e = copy_xattrs(entry, fd)))
        return e;
    if (fchmod(fd, w->mode) < 0 || futimens(fd, times) < 0)
        return err_errno(errno, "mode and time");
    return NULL;
}

static struct archive_entry *keep_attributes(const struct unpack *u, struct archive_entry *entry)
{
    return u->rules->whole_system && archive_entry_xattr_count(entry) > 0 ? archive_entry_clone(entry) : NULL;
}

static struct err *make_dir(struct unpack *u, struct archive_entry *entry, const char *path, const char *name,
                            const struct wanted *w)
{
    autofd int fd = -1;

    if (*path && mkdirat(u->parent, name, 0700) < 0 && errno != EEXIST)
        return err_errno(errno, "cannot make it");
    fd = openat(*path ? u->parent : u->root, *path ? name : ".", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return err_recode(err_errno(errno, "cannot open it"), ERR_INVALID);
    if ((w->uid || w->gid) && fchown(fd, w->uid, w->gid) < 0)
        return err_errno(errno, "owner");
    if (u->dir_count == u->dir_size) {
        u->dir_size = u->dir_size ? u->dir_size * 2 : 256;
        u->dirs = mem_grow(u->dirs, u->dir_size, sizeof(*u->dirs));
    }
    u->dirs[u->dir_count++] = (struct late_dir){
        .path = str_dup(path), .mode = w->mode, .mtime = w->mtime, .attributes = keep_attributes(u, entry)};
    return NULL;
}

static struct err *make_symlink(struct unpack *u, struct archive_entry *entry, const char *path, const char *name,
                                const struct wanted *w)
{
    struct timespec times[2] = {w->mtime, w->mtime};
    const char *target = archive_entry_symlink(entry);

    if (str_empty(target) || strlen(target) >= UNPACK_PATH_SIZE)
        return err_new(ERR_INVALID, "its link target is missing or too long");
    if (!u->rules->whole_system && !unpack_link_inside(path, target))
        return err_new(ERR_INVALID, "its link target leads outside");
    if (symlinkat(target, u->parent, name) < 0)
        return cannot_make(errno);
    if (((w->uid || w->gid) && fchownat(u->parent, name, w->uid, w->gid, AT_SYMLINK_NOFOLLOW) < 0) ||
        utimensat(u->parent, name, times, AT_SYMLINK_NOFOLLOW) < 0)
        return err_errno(errno, "owner and time");
    return NULL;
}

/* A FIFO, or a whiteout of overlayfs: the only device that nobody needs a right to make. */
static struct err *make_node(struct unpack *u, mode_t type, const char *name, const struct wanted *w)
{
    struct timespec times[2] = {w->mtime, w->mtime};

    if (mknodat(u->parent, name, type | 0600, 0) < 0)
        return cannot_make(errno);
    if (((w->uid || w->gid) && fchownat(u->parent, name, w->uid, w->gid, AT_SYMLINK_NOFOLLOW) < 0) ||
        fchmodat(u->parent, name, w->mode, 0) < 0 || utimensat(u->parent, name, times, AT_SYMLINK_NOFOLLOW) < 0)
        return err_errno(errno, "owner, mode and time");
    return NULL;
}

static struct err *strip(const char *dir, char path[UNPACK_PATH_SIZE])
{
    size_t len = dir ? strlen(dir) : 0;

    if (!dir)
        return NULL;
    if (strncmp(path, dir, len) != 0 || path[len] != '/')
        return err_new(ERR_INVALID, "'%.200s' is outside", path);
    memmove(path, path + len + 1, strlen(path + len + 1) + 1);
    return NULL;
}

static struct err *make_hardlink(struct unpack *u, struct archive_entry *entry, const char *name)
{
    char target[UNPACK_PATH_SIZE];
    struct err *e = unpack_path(archive_entry_hardlink(entry), target);
    autofd int dir = -1;
    char *slash;

    if (!e)
        e = strip(u->now.strip, target);
    if (e)
        return err_wrap(e, "the target of a hard link");
    if (!u->rules->whole_system)
        return err_new(ERR_INVALID, "hard links are refused");
    slash = strrchr(target, '/');
    if (slash)
        *slash = '\0';
    dir = walk(u->root, slash ? target : "", false);
    /* Without AT_SYMLINK_FOLLOW a symlink is linked itself. */
    if (dir < 0 || linkat(dir, slash ? slash + 1 : target, u->parent, name, 0) < 0)
        return err_recode(err_errno(errno, "cannot make the hard link"), ERR_INVALID);
    return NULL;
}

static struct err *make_entry(struct unpack *u, struct archive_entry *entry, const char *path)
{
    const char *name = "";
    struct wanted w;
    struct err *e = wanted_of(u, entry, &w);
    mode_t type = archive_entry_filetype(entry);

    if (!e && *path)
        e = enter_parent(u, path, &name);
    if (e)
        return e;
    if (!*path && type != AE_IFDIR)
        return err_new(ERR_INVALID, "the root is no directory");
    if (archive_entry_hardlink(entry))
        return make_hardlink(u, entry, name);
    if (type == AE_IFREG)
        return make_file(u, entry, name, &w);
    if (type == AE_IFDIR)
        return make_dir(u, entry, path, name, &w);
    if (type == AE_IFLNK)
        return make_symlink(u, entry, path, name, &w);
    if (u->rules->whole_system)
        return type == AE_IFIFO || (type == AE_IFCHR && archive_entry_rdev(entry) == 0) ? make_node(u, type, name, &w)
                                                                                        : NULL;
    return err_new(ERR_INVALID, "neither file, directory nor symlink");
}

static int by_path(const void *x, const void *y)
{
    const struct late_dir *const *dx = x, *const *dy = y;

    return strcmp((*dx)->path, (*dy)->path);
}

/* A directory is found by its entries before its own comes, so only the end tells whether that came twice. */
static struct err *check_dirs(const struct unpack *u)
{
    autofree const struct late_dir **sorted = mem_new_array(const struct late_dir *, u->dir_count + 1);

    for (size_t i = 0; i < u->dir_count; i++)
        sorted[i] = &u->dirs[i];
    qsort(sorted, u->dir_count, sizeof(*sorted), by_path);
    for (size_t i = 1; i < u->dir_count; i++)
        if (strcmp(sorted[i - 1]->path, sorted[i]->path) == 0)
            return err_new(ERR_INVALID, "the directory '%.200s' is there twice: a duplicate", sorted[i]->path);
    return NULL;
}

static struct err *finish_dirs(struct unpack *u)
{
    for (size_t i = u->dir_count; i > 0; i--) {
        const struct late_dir *late = &u->dirs[i - 1];
        struct timespec times[2] = {late->mtime, late->mtime};
        autofd int fd = walk(u->root, late->path, false);
        struct err *e = fd >= 0 && late->attributes ? copy_xattrs(late->attributes, fd) : NULL;

        if (e)
            return err_wrap(e, "'%.200s'", late->path);
        if (fd < 0 || fchmod(fd, late->mode) < 0 || futimens(fd, times) < 0)
            return err_errno(errno, "mode and time of '%s'", late->path);
    }
    return NULL;
}

/* What is left out has to be read, too. */
static struct err *count_skipped(struct unpack *u, struct archive_entry *entry)
{
    u->bytes += MAX(archive_entry_size(entry), 0);
    return u->bytes > u->rules->max_bytes ? too_much(u) : NULL;
}

static struct err *unpack_all(struct unpack *u)
{
    struct archive_entry *entry;
    struct err *e;
    int r;

    while ((r = archive_read_next_header(u->a, &entry)) != ARCHIVE_EOF) {
        if (r != ARCHIVE_OK && r != ARCHIVE_WARN)
            return archive_failed(u->a, "reading");
        if (++u->entries > u->rules->max_entries)
            return err_new(ERR_TOO_LARGE, "more than %lld entries", (long long)u->rules->max_entries);
        u->now = (struct unpack_entry){.archive = u->a, .entry = entry};
        e = unpack_path(archive_entry_pathname(entry), u->now.path);
        if (!e && u->rules->look)
            e = u->rules->look(u->rules->owner, &u->now);
        if (!e && u->now.digest)
            tree_digest_entry(u->now.digest, u->now.path, entry);
        if (!e)
            e = u->now.skip ? count_skipped(u, entry) : make_entry(u, entry, u->now.path);
        if (e)
            return err_wrap(e, "entry %lld '%.200s'", (long long)u->entries, archive_entry_pathname(entry));
    }
    e = check_dirs(u);
    return e ? e : finish_dirs(u);
}

struct err *unpack_archive(struct archive *a, int dir_fd, const struct unpack_rules *rules, int64_t *ret_bytes)
{
    struct unpack u = {.a = a, .rules = rules, .root = dir_fd, .parent = -1};
    struct err *e = unpack_all(&u);

    fd_closep(&u.parent);
    for (size_t i = 0; i < u.dir_count; i++) {
        free(u.dirs[i].path);
        archive_entry_free(u.dirs[i].attributes);
    }
    free(u.dirs);
    if (!e && ret_bytes)
        *ret_bytes = u.bytes;
    return e;
}
