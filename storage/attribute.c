/* SPDX-License-Identifier: Apache-2.0 */
#include "storage/attribute.h"

#include <linux/btrfs.h>
#include <string.h>
#include <sys/ioctl.h>

#define LEAF_USUAL 16384
/* btrfs_header, btrfs_item and btrfs_dir_item as they are on disk: what a leaf with one attribute has besides. */
#define LEAF_TAKEN (101 + 25 + 30)

size_t attribute_max(int fd)
{
    struct btrfs_ioctl_fs_info_args info = {0};
    size_t leaf = ioctl(fd, BTRFS_IOC_FS_INFO, &info) == 0 && info.nodesize ? info.nodesize : LEAF_USUAL;

    return leaf - LEAF_TAKEN;
}

struct err *attribute_check_size(int fd, const char *path, const char *name, size_t len)
{
    size_t max = attribute_max(fd), names = strlen(name);

    if (names + len <= max)
        return NULL;
    return err_new(ERR_TOO_LARGE, "the attribute '%.100s' of '%.300s' has %zu bytes, the pool takes at most %zu", name,
                   path, len, max - (names < max ? names : max));
}
