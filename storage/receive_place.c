/* SPDX-License-Identifier: Apache-2.0 */
#include "storage/receive_place.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "base/fd.h"
#include "base/str.h"

struct err *receive_failed(const char *what, const char *path)
{
    int errnum = errno;
    struct err *e = err_errno(errnum, "cannot %s '%.200s'", what, path);

    return errnum == ENOSPC || errnum == EDQUOT || errnum == EIO ? e : err_recode(e, ERR_INVALID);
}

static int open_below(int root, const char *path, uint64_t flags)
{
    struct open_how how = {.flags = flags | O_CLOEXEC,
                           .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV};

    return (int)syscall(SYS_openat2, root, *path ? path : ".", &how, sizeof(how));
}

void place_clear(struct place *p)
{
    free(p->path);
    fd_closep(&p->dir);
}

struct err *place_locate(int root, char *path, struct place *p)
{
    char *slash = strrchr(path, '/');

    p->path = path;
    p->name = slash ? slash + 1 : path;
    if (slash)
        *slash = '\0';
    if (!*path && !slash)
        p->name = ".";
    else if (!*p->name || str_eq(p->name, ".") || str_eq(p->name, ".."))
        return err_new(ERR_INVALID, "the stream has a path that is none");
    p->dir = open_below(root, slash ? path : "", O_RDONLY | O_DIRECTORY);
    return p->dir < 0 ? receive_failed("open the directory", slash ? path : ".") : NULL;
}

struct err *place_open_file(int root, const char *path, int flags, int *ret)
{
    PLACE p = {.dir = -1};
    struct stat st;
    struct err *e = place_locate(root, str_dup(path), &p);

    if (e)
        return e;
    if (fstatat(p.dir, p.name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return receive_failed("open", path);
    if (!S_ISREG(st.st_mode))
        return err_new(ERR_INVALID, "'%.200s' of the stream is no file", path);
    *ret = openat(p.dir, p.name, flags | O_NOFOLLOW | O_CLOEXEC);
    return *ret < 0 ? receive_failed("open", path) : NULL;
}
