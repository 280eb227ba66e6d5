/* SPDX-License-Identifier: Apache-2.0 */
/* Files of somebody else's root, read. */
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "base/fd.h"
#include "base/str.h"
#include "provisioning/confined_internal.h"

#ifndef XFS_SUPER_MAGIC
#define XFS_SUPER_MAGIC 0x58465342
#endif

/* File systems whose files are bytes that somebody has put there. A proc inside a running container has regular files
 * that wait (kmsg), take away what they show, or are read with the reader's own rights. */
static bool is_of_files(int fd)
{
    struct statfs fs;

    if (fstatfs(fd, &fs) < 0)
        return false;
    switch ((unsigned long)fs.f_type) {
    case BTRFS_SUPER_MAGIC:
    case EXT4_SUPER_MAGIC:
    case OVERLAYFS_SUPER_MAGIC:
    case RAMFS_MAGIC:
    case TMPFS_MAGIC:
    case XFS_SUPER_MAGIC:
        return true;
    default:
        return false;
    }
}

struct err *confined_read_place(int place, const char *path, size_t max, char **ret_text, size_t *ret_len)
{
    autofree char *link = str_fmt("/proc/self/fd/%d", place);
    autofd int fd = -1;
    struct stat st;

    if (fstat(place, &st) < 0)
        return err_errno(errno, "'%s'", path);
    if (!S_ISREG(st.st_mode) || !is_of_files(place))
        return err_new(ERR_NOT_FOUND, "'%s' is not a regular file", path);
    fd = open(link, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (fd < 0)
        return err_errno(errno, "'%s'", path);
    return err_wrap(fd_read_all(fd, max, ret_text, ret_len), "'%s'", path);
}

static struct err *read_inside(int root, const char *path, uint64_t resolve, size_t max, char **ret_text,
                               size_t *ret_len)
{
    /* O_PATH first: opening a FIFO or a device for reading has effects. */
    autofd int place = confined_open_how(root, path, O_PATH, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | resolve);

    if (place < 0) {
        bool absent = errno == ENOENT || errno == ENOTDIR || errno == ELOOP || errno == EXDEV;

        return err_recode(err_errno(errno, "'%s'", path), absent ? ERR_NOT_FOUND : ERR_HOST);
    }
    return confined_read_place(place, path, max, ret_text, ret_len);
}

struct err *confined_read(int root, const char *path, size_t max, char **ret_text, size_t *ret_len)
{
    return read_inside(root, path, 0, max, ret_text, ret_len);
}

struct err *confined_read_unmounted(int root, const char *path, size_t max, char **ret_text, size_t *ret_len)
{
    return read_inside(root, path, RESOLVE_NO_XDEV, max, ret_text, ret_len);
}
