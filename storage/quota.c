/* SPDX-License-Identifier: Apache-2.0 */
#include "storage/quota.h"

#include <btrfsutil.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/btrfs.h>
#include <linux/btrfs_tree.h>
#include <stddef.h>
#include <sys/ioctl.h>

#include "base/fd.h"

/* From linux/btrfs.h and linux/btrfs_tree.h of 6.7; the headers may be older than the kernel. */
enum { CTL_ENABLE_SIMPLE = 4 };
#define STATUS_SIMPLE_MODE (1ULL << 3)

/* One item of the quota tree; its first `size` bytes. False when there is none, or no quota tree. */
static bool read_item(int fd, uint32_t type, uint64_t offset, void *ret, size_t size)
{
    union {
        struct btrfs_ioctl_search_args args;
        char room[sizeof(struct btrfs_ioctl_search_args)];
    } u = {.args.key = {.tree_id = BTRFS_QUOTA_TREE_OBJECTID,
                        .min_type = type,
                        .max_type = type,
                        .min_offset = offset,
                        .max_offset = offset,
                        .max_transid = UINT64_MAX,
                        .nr_items = 1}};
    struct btrfs_ioctl_search_header h;

    if (ioctl(fd, BTRFS_IOC_TREE_SEARCH, &u.args) < 0 || u.args.key.nr_items == 0)
        return false;
    memcpy(&h, u.args.buf, sizeof(h));
    if (h.len < size)
        return false;
    memcpy(ret, u.args.buf + sizeof(h), size);
    return true;
}

static bool is_on(int fd)
{
    struct btrfs_qgroup_status_item item;

    return read_item(fd, BTRFS_QGROUP_STATUS_KEY, 0, &item, sizeof(item)) && le64toh(item.flags) & STATUS_SIMPLE_MODE;
}

bool quota_is_on(const char *pool)
{
    autofd int fd = open(pool, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    return fd >= 0 && is_on(fd);
}

struct err *quota_enable(const char *pool)
{
    autofd int fd = open(pool, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct btrfs_ioctl_quota_ctl_args args = {.cmd = CTL_ENABLE_SIMPLE};

    if (fd < 0)
        return err_errno(errno, "'%s'", pool);
    if (is_on(fd) || ioctl(fd, BTRFS_IOC_QUOTA_CTL, &args) == 0)
        return NULL;
    return errno == EINVAL || errno == ENOTTY || errno == EOPNOTSUPP
               ? NULL
               : err_errno(errno, "cannot switch on simple quotas of '%s'", pool);
}

struct err *quota_usage(const char *subvolume, int64_t *ret_bytes)
{
    autofd int fd = open(subvolume, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    struct btrfs_qgroup_info_item item;
    uint64_t id = 0;

    if (fd < 0)
        return err_errno(errno, "'%s'", subvolume);
    if (btrfs_util_subvolume_id_fd(fd, &id) != BTRFS_UTIL_OK)
        return err_errno(errno, "'%s'", subvolume);
    *ret_bytes =
        is_on(fd) && read_item(fd, BTRFS_QGROUP_INFO_KEY, id, &item, sizeof(item)) ? (int64_t)le64toh(item.rfer) : -1;
    return NULL;
}
