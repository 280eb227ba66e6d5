/* SPDX-License-Identifier: Apache-2.0 */
#include "storage/receive_apply.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/str.h"
#include "storage/attribute.h"
#include "storage/receive_place.h"

enum { IDS = 65536 };

static struct err *place_of(const struct receive_apply *a, enum send_attribute attribute, struct place *p)
{
    char *path = NULL;
    struct err *e = send_text(&a->command, attribute, &path);

    return e ? e : place_locate(a->root, path, p);
}

static void forget_file(struct receive_apply *a)
{
    fd_closep(&a->file);
    a->file = -1;
    free(a->file_path);
    a->file_path = NULL;
}

/* Writes to one file come one after the other. */
static struct err *current_file(struct receive_apply *a, char **path)
{
    struct err *e;

    if (a->file >= 0 && str_eq(a->file_path, *path))
        return NULL;
    forget_file(a);
    e = place_open_file(a->root, *path, O_WRONLY, &a->file);
    if (!e)
        a->file_path = steal(path);
    return e;
}

static struct err *do_write(struct receive_apply *a)
{
    autofree char *path = NULL;
    const unsigned char *data = a->command.attribute[SEND_DATA].data;
    size_t len = a->command.attribute[SEND_DATA].len;
    uint64_t at = 0;
    struct err *e = send_text(&a->command, SEND_PATH, &path);

    if (!e)
        e = send_number(&a->command, SEND_FILE_OFFSET, &at);
    if (!e)
        e = current_file(a, &path);
    while (!e && data && len > 0) {
        ssize_t n = pwrite(a->file, data, len, (off_t)at);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return receive_failed("write", a->file_path);
        data += n;
        len -= (size_t)n;
        at += (uint64_t)n;
    }
    return e;
}

static struct err *do_clone(struct receive_apply *a)
{
    autofree char *path = NULL, *from_path = NULL;
    unsigned char uuid[SEND_UUID_SIZE];
    struct file_clone_range range = {0};
    uint64_t from = 0, len = 0, to = 0;
    autofd int source = -1;
    bool own;
    struct err *e = send_text(&a->command, SEND_PATH, &path);

    if (!e)
        e = send_text(&a->command, SEND_CLONE_PATH, &from_path);
    if (!e)
        e = send_uuid(&a->command, SEND_CLONE_UUID, uuid);
    if (!e)
        e = send_number(&a->command, SEND_CLONE_OFFSET, &from);
    if (!e)
        e = send_number(&a->command, SEND_CLONE_LEN, &len);
    if (!e)
        e = send_number(&a->command, SEND_FILE_OFFSET, &to);
    if (e)
        return e;
    own = memcmp(uuid, a->uuid, sizeof(uuid)) == 0;
    if (!own && (a->parent < 0 || memcmp(uuid, a->parent_uuid, sizeof(uuid)) != 0))
        return err_new(ERR_INVALID, "the stream takes data from a subvolume that is not its parent");
    e = place_open_file(own ? a->root : a->parent, from_path, O_RDONLY, &source);
    if (!e)
        e = current_file(a, &path);
    range = (struct file_clone_range){source, from, len, to};
    if (!e && ioctl(a->file, FICLONERANGE, &range) < 0)
        e = receive_failed("clone into", a->file_path);
    return e;
}

static struct err *do_truncate(struct receive_apply *a)
{
    autofree char *path = NULL;
    uint64_t size = 0;
    struct err *e = send_text(&a->command, SEND_PATH, &path);

    if (!e)
        e = send_number(&a->command, SEND_SIZE, &size);
    if (!e)
        e = current_file(a, &path);
    if (!e && ftruncate(a->file, (off_t)size) < 0)
        e = receive_failed("set the size of", a->file_path);
    return e;
}

/* The devices that every container has, and the whiteouts of overlayfs. */
static bool is_plain_device(dev_t dev)
{
    static const unsigned char memory[] = {3, 5, 7, 8, 9}, terminals[] = {0, 1, 2};
    const unsigned char *list = major(dev) == 1 ? memory : terminals;
    size_t n = major(dev) == 1 ? ARRAY_LEN(memory) : ARRAY_LEN(terminals);

    if (dev == 0)
        return true;
    return (major(dev) == 1 || major(dev) == 5) && minor(dev) < 256 && memchr(list, (int)minor(dev), n);
}

static struct err *do_make(struct receive_apply *a)
{
    PLACE p = {.dir = -1};
    autofree char *target = NULL;
    uint64_t mode = 0, dev = 0;
    mode_t type = a->command.kind == SEND_MKFILE ? S_IFREG : a->command.kind == SEND_MKFIFO ? S_IFIFO : S_IFSOCK;
    struct err *e = place_of(a, SEND_PATH, &p);
    int rc;

    if (!e && a->command.kind == SEND_MKNOD) {
        e = send_number(&a->command, SEND_MODE, &mode);
        if (!e)
            e = send_number(&a->command, SEND_RDEV, &dev);
        type = (mode_t)mode & S_IFMT;
        if (!e && (!S_ISCHR(type) || !is_plain_device((dev_t)dev)))
            e = err_new(ERR_INVALID, "'%.200s' of the stream is a device that is not allowed", p.name);
    }
    if (!e && a->command.kind == SEND_SYMLINK)
        e = send_text(&a->command, SEND_PATH_LINK, &target);
    if (e)
        return e;
    if (a->command.kind == SEND_MKDIR)
        rc = mkdirat(p.dir, p.name, 0700);
    else if (a->command.kind == SEND_SYMLINK)
        rc = symlinkat(target, p.dir, p.name);
    else
        rc = mknodat(p.dir, p.name, type | 0600, (dev_t)dev);
    return rc < 0 ? receive_failed("make", p.name) : NULL;
}

static struct err *do_rename(struct receive_apply *a)
{
    PLACE from = {.dir = -1}, to = {.dir = -1};
    struct err *e = place_of(a, SEND_PATH, &from);

    if (!e)
        e = place_of(a, SEND_PATH_TO, &to);
    if (!e && renameat(from.dir, from.name, to.dir, to.name) < 0)
        e = receive_failed("rename", from.name);
    return e;
}

static struct err *do_link(struct receive_apply *a)
{
    PLACE from = {.dir = -1}, to = {.dir = -1};
    struct err *e = place_of(a, SEND_PATH_LINK, &from);

    if (!e)
        e = place_of(a, SEND_PATH, &to);
    if (!e && linkat(from.dir, from.name, to.dir, to.name, 0) < 0)
        e = receive_failed("link", from.name);
    return e;
}

static struct err *do_remove(struct receive_apply *a)
{
    PLACE p = {.dir = -1};
    struct err *e = place_of(a, SEND_PATH, &p);

    if (!e && unlinkat(p.dir, p.name, a->command.kind == SEND_RMDIR ? AT_REMOVEDIR : 0) < 0)
        e = receive_failed("remove", p.name);
    return e;
}

static struct err *check_attribute_size(const struct place *p, const char *name, size_t len)
{
    bool deeper = p->name != p->path && !str_eq(p->name, ".");
    autofree char *path = str_fmt("%s%s%s", deeper ? p->path : "", deeper ? "/" : "", p->name);

    return attribute_check_size(p->dir, path, name, len);
}

/* There is no call that takes a directory and a name: the directory becomes the current one. */
static struct err *do_xattr(struct receive_apply *a)
{
    const unsigned char *data = a->command.kind == SEND_SET_XATTR ? a->command.attribute[SEND_XATTR_DATA].data : NULL;
    size_t len = a->command.attribute[SEND_XATTR_DATA].len;
    bool set = a->command.kind == SEND_SET_XATTR;
    enum receive_fate fate = RECEIVE_REFUSED;
    autofree char *name = NULL;
    PLACE p = {.dir = -1};
    struct err *e = place_of(a, SEND_PATH, &p);
    int rc;

    if (!e)
        e = send_text(&a->command, SEND_XATTR_NAME, &name);
    if (!e)
        fate = receive_fate_of(name);
    if (!e && fate == RECEIVE_DROPPED)
        return NULL;
    if (!e && fate == RECEIVE_REFUSED)
        e = err_new(ERR_INVALID, "the stream has the attribute '%.100s', which is not allowed", name);
    if (!e && str_eq(p.name, ".") && receive_inherited_put(&a->inherited, name, set, data, len))
        return NULL;
    if (!e && fchdir(p.dir) < 0)
        e = receive_failed("enter the directory of", p.name);
    if (e)
        return e;
    rc = set ? lsetxattr(p.name, name, data, len, 0) : lremovexattr(p.name, name);
    if (rc < 0 && set && errno == ENOSPC)
        e = check_attribute_size(&p, name, len);
    if (rc < 0 && fate == RECEIVE_WISHED && (e || (errno != ENOSPC && errno != EDQUOT && errno != EIO))) {
        err_free(e);
        return NULL;
    }
    if (rc < 0 && !e && !(!set && errno == ENODATA))
        e = receive_failed("set an attribute of", p.name);
    return e;
}

static struct err *do_chmod(struct receive_apply *a)
{
    PLACE p = {.dir = -1};
    uint64_t mode = 0;
    struct stat st;
    struct err *e = place_of(a, SEND_PATH, &p);

    if (!e)
        e = send_number(&a->command, SEND_MODE, &mode);
    if (!e && fstatat(p.dir, p.name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        e = receive_failed("find", p.name);
    if (!e && S_ISLNK(st.st_mode))
        e = err_new(ERR_INVALID, "the stream sets the mode of a symbolic link");
    if (!e && fchmodat(p.dir, p.name, (mode_t)mode & 07777, 0) < 0)
        e = receive_failed("set the mode of", p.name);
    return e;
}

static struct err *do_chown(struct receive_apply *a)
{
    PLACE p = {.dir = -1};
    uint64_t uid = 0, gid = 0;
    struct err *e = place_of(a, SEND_PATH, &p);

    if (!e)
        e = send_number(&a->command, SEND_UID, &uid);
    if (!e)
        e = send_number(&a->command, SEND_GID, &gid);
    if (!e && (uid >= IDS || gid >= IDS))
        e = err_new(ERR_INVALID, "'%.200s' of the stream has an owner outside a container", p.name);
    if (!e && fchownat(p.dir, p.name, (uid_t)uid, (gid_t)gid, AT_SYMLINK_NOFOLLOW) < 0)
        e = receive_failed("set the owner of", p.name);
    return e;
}

static struct err *do_times(struct receive_apply *a)
{
    struct timespec times[2] = {{0}};
    PLACE p = {.dir = -1};
    struct err *e = place_of(a, SEND_PATH, &p);

    if (!e)
        e = send_time(&a->command, SEND_ATIME, &times[0]);
    if (!e)
        e = send_time(&a->command, SEND_MTIME, &times[1]);
    if (!e && utimensat(p.dir, p.name, times, AT_SYMLINK_NOFOLLOW) < 0)
        e = receive_failed("set the times of", p.name);
    return e;
}

/* The first command says what it is. */
static struct err *begin(struct receive_apply *a)
{
    struct err *e = send_read_command(a->read, a->owner, &a->command);

    if (!e && a->command.kind != (a->parent < 0 ? SEND_SUBVOL : SEND_SNAPSHOT))
        e = err_new(ERR_INVALID, "the stream is %sa difference to another subvolume", a->parent < 0 ? "" : "not ");
    if (!e)
        e = send_uuid(&a->command, SEND_UUID, a->uuid);
    if (!e)
        e = send_number(&a->command, SEND_CTRANSID, &a->transid);
    if (!e && a->parent >= 0)
        e = send_uuid(&a->command, SEND_CLONE_UUID, a->parent_uuid);
    return e;
}

static struct err *apply_one(struct receive_apply *a)
{
    static struct err *(*const doers[SEND_KIND_MAX])(struct receive_apply *) = {
        [SEND_MKFILE] = do_make,   [SEND_MKDIR] = do_make,      [SEND_MKNOD] = do_make,
        [SEND_MKFIFO] = do_make,   [SEND_MKSOCK] = do_make,     [SEND_SYMLINK] = do_make,
        [SEND_RENAME] = do_rename, [SEND_LINK] = do_link,       [SEND_UNLINK] = do_remove,
        [SEND_RMDIR] = do_remove,  [SEND_SET_XATTR] = do_xattr, [SEND_REMOVE_XATTR] = do_xattr,
        [SEND_WRITE] = do_write,   [SEND_CLONE] = do_clone,     [SEND_TRUNCATE] = do_truncate,
        [SEND_CHMOD] = do_chmod,   [SEND_CHOWN] = do_chown,     [SEND_UTIMES] = do_times,
    };
    int kind = a->command.kind;

    if (!doers[kind])
        return err_new(ERR_INVALID, "the stream begins a second time");
    if (kind != SEND_WRITE && kind != SEND_CLONE && kind != SEND_TRUNCATE)
        forget_file(a);
    return doers[kind](a);
}

struct err *receive_apply(struct receive_apply *a)
{
    struct err *e;

    a->command.data = mem_new_array(unsigned char, SEND_COMMAND_MAX);
    a->file = -1;
    e = send_read_head(a->read, a->owner);
    if (!e)
        e = begin(a);
    if (!e)
        e = receive_inherited_take(a->root, &a->inherited);
    while (!e) {
        e = send_read_command(a->read, a->owner, &a->command);
        if (e || a->command.kind == SEND_END)
            break;
        e = apply_one(a);
    }
    forget_file(a);
    if (!e)
        e = receive_inherited_give(a->root, &a->inherited);
    receive_inherited_clear(&a->inherited);
    free(a->command.data);
    a->command.data = NULL;
    return e;
}
