/* SPDX-License-Identifier: Apache-2.0 */
#include "storage/pool_state.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/btrfs.h>
#include <sys/ioctl.h>

#include "base/fd.h"

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

struct err *pool_state_read(const char *pool, struct pool_state *ret)
{
    autofd int fd = open(pool, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    *ret = (struct pool_state){0};
    return fd < 0 ? err_errno(errno, "'%s'", pool) : read_errors(fd, pool, ret);
}
