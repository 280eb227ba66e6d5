/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One entry of an archive becomes a file, directory, link or pipe. The last opened parent directory is kept: archives
 * list a directory's members together, so most entries cost one openat.
 */
#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "base/fd.h"
#include "base/str.h"
#include "provisioning/pack_holes.h"
#include "provisioning/tree_digest.h"
#include "provisioning/unpack_internal.h"
#include "storage/attribute.h"

#define XATTR_MAX 65536
#define ID_MAX 65535

int unpack_walk(int root, const char *path, bool make)
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
    u->parent = unpack_walk(u->root, u->parent_path, true);
    if (u->parent < 0)
        return err_recode(err_errno(errno, "its path leads through something that is no directory"), ERR_INVALID);
    return NULL;
}

struct err *unpack_failed(struct archive *a, const char *what)
{
    const char *text = archive_error_string(a);

    return err_new(ERR_INVALID, "%s: %s", what, text ? text : "damaged archive");
}

struct err *unpack_too_much(const struct unpack *u)
{
    return err_new(ERR_TOO_LARGE, "more than %lld bytes when unpacked", (long long)u->rules->max_bytes);
}

static struct err *no_room(int errnum)
{
    if (errnum == ENOSPC || errnum == EDQUOT)
        return err_new(ERR_HOST, "the storage pool is full: see 'nodectl storage show' and 'nodectl storage grow'");
    return err_errno(errnum, "write");
}

static struct err *write_block(int fd, const char *block, size_t len, off_t offset)
{
    while (len) {
        ssize_t n = pwrite(fd, block, len, offset);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return no_room(errno);
        block += n;
        len -= (size_t)n;
        offset += n;
    }
    return NULL;
}

static void note_hole(const struct unpack *u, int64_t from, int64_t to)
{
    if (u->now.digest && to > from)
        tree_digest_hole(u->now.digest, from, to - from);
}

/* How a file that is all hole comes (pack_holes.h): data begins at a block of the disk, this does not. */
static bool is_hole_mark(const char *block, size_t len, int64_t offset, int64_t before, int64_t size)
{
    return before == 0 && offset % PACK_ALIGNMENT != 0 && len <= PACK_MARK_MAX && offset + (int64_t)len == size &&
           !block[0] && !block[len - 1];
}

/* Of a file of `size` bytes. What no block of the archive covers becomes a hole. */
static struct err *copy_data(struct unpack *u, int fd, int64_t size)
{
    int64_t end = 0;

    for (;;) {
        const char *block;
        size_t len;
        la_int64_t offset;
        int r = archive_read_data_block(u->a, (const void **)&block, &len, &offset);
        struct err *e = NULL;

        if (r == ARCHIVE_EOF) {
            note_hole(u, end, size);
            return NULL;
        }
        if (r != ARCHIVE_OK)
            return unpack_failed(u->a, "reading");
        if (len == 0)
            continue;
        if (offset < end || offset > size || (int64_t)len > size - offset)
            return err_new(ERR_INVALID, "its pieces overlap or lie behind its end");
        u->bytes += (int64_t)len;
        if (u->bytes > u->rules->max_bytes)
            return unpack_too_much(u);
        note_hole(u, end, offset);
        if (u->now.digest)
            tree_digest_data(u->now.digest, block, len);
        if (!is_hole_mark(block, len, offset, end, size))
            e = write_block(fd, block, len, (off_t)offset);
        end = offset + (int64_t)len;
        if (e)
            return e;
    }
}

/* What the file would take of the disk, by its header: an archive that says too much is refused before it is read. */
static struct err *check_size(const struct unpack *u, struct archive_entry *entry)
{
    int64_t size = archive_entry_size(entry), taken = size, at, len;

    if (size < 0)
        return err_new(ERR_INVALID, "its size is negative");
    if (u->rules->whole_system && archive_entry_sparse_reset(entry) > 0)
        for (taken = 0; archive_entry_sparse_next(entry, &at, &len) == ARCHIVE_OK;)
            taken += MIN(MAX(len, 0), size - MIN(taken, size));
    return taken > u->rules->max_bytes - u->bytes ? unpack_too_much(u) : NULL;
}

struct err *unpack_xattrs(struct archive_entry *entry, int fd, const char *path)
{
    const char *name;
    const void *value;
    struct err *e;
    size_t len;

    archive_entry_xattr_reset(entry);
    while (archive_entry_xattr_next(entry, &name, &value, &len) == ARCHIVE_OK) {
        if (!tree_keeps_attribute(name))
            continue;
        if (len <= XATTR_MAX && fsetxattr(fd, name, value, len, 0) == 0)
            continue;
        e = len > XATTR_MAX || errno == ENOSPC ? attribute_check_size(fd, path, name, len) : NULL;
        if (e)
            return e;
        return errno == ENOSPC || errno == EDQUOT ? no_room(errno)
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

static struct err *make_file(struct unpack *u, struct archive_entry *entry, const char *path, const char *name,
                             const struct wanted *w)
{
    struct timespec times[2] = {w->mtime, w->mtime};
    struct err *e = check_size(u, entry);
    autofd int fd = -1;

    if (e)
        return e;
    fd = openat(u->parent, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return cannot_make(errno);
    e = copy_data(u, fd, archive_entry_size(entry));
    if (e)
        return e;
    /* A hole at the end of a sparse file comes with no data. */
    if (ftruncate(fd, (off_t)archive_entry_size(entry)) < 0)
        return err_recode(err_errno(errno, "cannot set its size"), ERR_INVALID);
    if ((w->uid || w->gid) && fchown(fd, w->uid, w->gid) < 0)
        return err_errno(errno, "owner");
    if (u->rules->whole_system && (e = unpack_xattrs(entry, fd, path)))
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
    dir = unpack_walk(u->root, slash ? target : "", false);
    /* Without AT_SYMLINK_FOLLOW a symlink is linked itself. */
    if (dir < 0 || linkat(dir, slash ? slash + 1 : target, u->parent, name, 0) < 0)
        return err_recode(err_errno(errno, "cannot make the hard link"), ERR_INVALID);
    return NULL;
}

struct err *unpack_make(struct unpack *u, struct archive_entry *entry, const char *path)
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
        return make_file(u, entry, path, name, &w);
    if (type == AE_IFDIR)
        return make_dir(u, entry, path, name, &w);
    if (type == AE_IFLNK)
        return make_symlink(u, entry, path, name, &w);
    if (u->rules->whole_system)
        return type == AE_IFIFO || (type == AE_IFCHR && archive_entry_rdev(entry) == 0) ? make_node(u, type, name, &w)
                                                                                        : NULL;
    return err_new(ERR_INVALID, "neither file, directory nor symlink");
}
