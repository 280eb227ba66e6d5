/* SPDX-License-Identifier: Apache-2.0 */
#include "storage/pool_state.h"

#include <btrfsutil.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/btrfs.h>
#include <sys/ioctl.h>

#include "base/fd.h"
#include "base/str.h"
#include "storage/layout.h"

/* A pool that an operator made may have several devices; their numbers add up. */
static struct err *read_errors(int fd, const char *pool, struct pool_state *ret)
{
    struct btrfs_ioctl_fs_info_args info = {0};

    if (ioctl(fd, BTRFS_IOC_FS_INFO, &info) < 0)
        return err_errno(errno, "cannot read the devices of '%s'", pool);
    for (uint64_t id = 1; id <= info.max_id; id++) {
        struct btrfs_ioctl_get_dev_stats s = {.devid = id, .nr_items = BTRFS_DEV_STAT_VALUES_MAX};

        if (ioctl(fd, BTRFS_IOC_GET_DEV_STATS, &s) < 0) {
            if (errno == ENODEV)
                continue; /* a number that is not used any more */
            return err_errno(errno, "cannot read the errors of a device of '%s'", pool);
        }
        ret->write_errors += (int64_t)s.values[BTRFS_DEV_STAT_WRITE_ERRS];
        ret->read_errors += (int64_t)s.values[BTRFS_DEV_STAT_READ_ERRS];
        ret->flush_errors += (int64_t)s.values[BTRFS_DEV_STAT_FLUSH_ERRS];
        ret->corruption_errors += (int64_t)s.values[BTRFS_DEV_STAT_CORRUPTION_ERRS];
        ret->generation_errors += (int64_t)s.values[BTRFS_DEV_STAT_GENERATION_ERRS];
    }
    return NULL;
}

static int64_t entries(const char *dir)
{
    DIR *d = opendir(dir);
    struct dirent *entry;
    int64_t n = 0;

    while (d && (entry = readdir(d)))
        n += strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
    if (d)
        closedir(d);
    return n;
}

struct err *pool_state_read(const char *pool, struct pool_state *ret)
{
    autofree char *trash = layout_trash(pool);
    autofd int fd = open(pool, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    uint64_t *ids = NULL;
    size_t count = 0;

    *ret = (struct pool_state){0};
    if (fd < 0)
        return err_errno(errno, "'%s'", pool);
    if (btrfs_util_deleted_subvolumes_fd(fd, &ids, &count) != BTRFS_UTIL_OK)
        return err_errno(errno, "cannot list what is deleted in '%s'", pool);
    free(ids);
    ret->reclaiming = (int64_t)count;
    ret->trash = entries(trash);
    return read_errors(fd, pool, ret);
}
