/* SPDX-License-Identifier: Apache-2.0 */
#include "provisioning/install.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>

#include "base/failpoint.h"
#include "base/fd.h"
#include "base/str.h"
#include "storage/layout.h"
#include "storage/subvolume.h"

static struct err *sweep(const char *pool, const char *path)
{
    DIR *dir = opendir(path);
    struct err *e = NULL;
    struct dirent *entry;

    if (!dir)
        return err_errno(errno, "'%s'", path);
    while (!e && (entry = readdir(dir))) {
        autofree char *leftover = NULL;

        if (strncmp(entry->d_name, LAYOUT_TEMPORARY, strlen(LAYOUT_TEMPORARY)) != 0)
            continue;
        leftover = str_fmt("%s/%s", path, entry->d_name);
        e = subvolume_delete(pool, leftover);
    }
    closedir(dir);
    return e;
}

struct err *install_begin(const char *pool, const char *dir, int *ret_fd)
{
    autofd int fd = -1;
    struct err *e = fd_mkdirs(dir, 0700);

    if (e)
        return e;
    fd = open(dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return err_errno(errno, "'%s'", dir);
    while (flock(fd, LOCK_EX) < 0)
        if (errno != EINTR)
            return err_errno(errno, "lock of '%s'", dir);
    e = sweep(pool, dir);
    if (e)
        return e;
    *ret_fd = fd_steal(&fd);
    return NULL;
}

struct err *install_finish(const char *temporary, const char *final)
{
    autofd int dir = open(temporary, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    struct err *e;

    /* On disk before it gets its name: what has a name is whole. */
    if (dir < 0 || syncfs(dir) < 0)
        return err_errno(errno, "cannot write '%s' out", temporary);
    e = failpoint("install.readonly");
    if (!e)
        e = subvolume_set_readonly(temporary, true);
    if (!e)
        e = failpoint("install.rename");
    if (!e && rename(temporary, final) < 0)
        e = err_errno(errno, "cannot rename '%s'", temporary);
    return e;
}
