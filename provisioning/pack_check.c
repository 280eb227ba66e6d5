/* SPDX-License-Identifier: Apache-2.0 */
#include "provisioning/pack_check.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/str.h"
#include "provisioning/pack_attributes.h"
#include "provisioning/pack_holes.h"
#include "provisioning/unpack.h"

#define ELSE "a tar archive cannot hold it, the format 'stream' can"

struct err *pack_check_path(const char *path, const char *target)
{
    char checked[UNPACK_PATH_SIZE];
    struct err *e = unpack_path(path, checked);

    if (!e && target && strlen(target) >= UNPACK_PATH_SIZE)
        e = err_new(ERR_INVALID, "its link target is too long");
    return e ? err_wrap(err_recode(e, ERR_HOST), "'%.200s...' has no place in an archive", path) : NULL;
}

static struct err *check_tree(int dir, const char *path);

/* It may have any path then. */
static bool is_left_out(int parent, const struct dirent *entry)
{
    struct stat st;

    if (entry->d_type == DT_CHR)
        return fstatat(parent, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_rdev != 0;
    return entry->d_type == DT_SOCK || entry->d_type == DT_BLK;
}

static struct err *check_file(int parent, const char *name, const char *path)
{
    autofd int fd = openat(parent, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    struct pack_region *regions = NULL;
    size_t count = 0;
    struct stat st;
    struct err *e;

    if (fd < 0 || fstat(fd, &st) < 0)
        return err_errno(errno, "'%s'", path);
    e = pack_attributes(fd, path, NULL);
    /* Of the few files whose holes become zeros, those that have too many. */
    if (!e && (st.st_size > PACK_SIZE_MAX || !pack_path_allows_map(path)))
        e = err_wrap(pack_regions(fd, path, st.st_size, &regions, &count), ELSE ": '%s' has no place in it", path);
    free(regions);
    return e;
}

static struct err *check_entry(int parent, const struct dirent *entry, const char *path)
{
    char target[PATH_MAX] = "";
    struct err *e;

    if (is_left_out(parent, entry))
        return NULL;
    if (entry->d_type == DT_LNK && readlinkat(parent, entry->d_name, target, sizeof(target) - 1) < 0)
        return err_errno(errno, "'%s'", path);
    e = err_wrap(pack_check_path(path, entry->d_type == DT_LNK ? target : NULL), ELSE);
    if (!e && entry->d_type == DT_REG)
        e = check_file(parent, entry->d_name, path);
    if (e || entry->d_type != DT_DIR)
        return e;
    return check_tree(openat(parent, entry->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC), path);
}

/* Takes over the directory; -1: it could not be opened. Goes no deeper than a path may, with one descriptor for each
 * directory on the way. */
static struct err *check_tree(int dir, const char *path)
{
    DIR *d = dir >= 0 ? fdopendir(dir) : NULL;
    const struct dirent *entry;
    struct err *e = NULL;

    if (!d) {
        e = err_errno(errno, "cannot list '%s'", path);
        fd_closep(&dir);
        return e;
    }
    e = pack_attributes(dirfd(d), path, NULL);
    while (!e && (entry = readdir(d))) {
        autofree char *child = str_fmt("%s/%s", path, entry->d_name);

        if (!str_eq(entry->d_name, ".") && !str_eq(entry->d_name, ".."))
            e = check_entry(dirfd(d), entry, child);
    }
    closedir(d);
    return e;
}

struct err *pack_check(int dir, const char *prefix)
{
    return check_tree(openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), prefix);
}
