/* SPDX-License-Identifier: Apache-2.0 */
#include "storage/change.h"

#include <btrfsutil.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/btrfs.h>
#include <linux/btrfs_tree.h>
#include <sys/ioctl.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/str.h"

#define SEARCH_BYTES 65536

/* The transaction after which the snapshot's own data was written. */
static struct err *find_base(const char *snapshot, const char *rootfs, const char *previous, uint64_t *ret_generation)
{
    struct btrfs_util_subvolume_info self, other;

    *ret_generation = 0;
    if (btrfs_util_subvolume_info(snapshot, 0, &self) != BTRFS_UTIL_OK)
        return err_errno(errno, "'%s'", snapshot);
    if (btrfs_util_subvolume_info(rootfs, 0, &other) == BTRFS_UTIL_OK &&
        memcmp(other.uuid, self.parent_uuid, sizeof(other.uuid)) == 0)
        *ret_generation = other.otransid;
    if (previous && btrfs_util_subvolume_info(previous, 0, &other) == BTRFS_UTIL_OK &&
        memcmp(other.parent_uuid, self.parent_uuid, sizeof(self.parent_uuid)) == 0 && other.otransid < self.otransid)
        *ret_generation = MAX(*ret_generation, other.otransid);
    return NULL;
}

static int64_t item_bytes(const struct btrfs_ioctl_search_header *h, const char *data, uint64_t generation)
{
    struct btrfs_file_extent_item item;
    size_t inline_head = offsetof(struct btrfs_file_extent_item, disk_bytenr);

    if (h->type != BTRFS_EXTENT_DATA_KEY || h->len < inline_head)
        return 0;
    memcpy(&item, data, MIN(sizeof(item), h->len));
    if (le64toh(item.generation) <= generation || item.type == BTRFS_FILE_EXTENT_PREALLOC)
        return 0;
    if (item.type == BTRFS_FILE_EXTENT_INLINE)
        return (int64_t)le64toh(item.ram_bytes);
    /* No place on disk: a hole. */
    return h->len < sizeof(item) || item.disk_bytenr == 0 ? 0 : (int64_t)le64toh(item.num_bytes);
}

/* The key after the last one seen; false at the end of all keys. */
static bool next_key(struct btrfs_ioctl_search_key *key, const struct btrfs_ioctl_search_header *last)
{
    key->min_objectid = last->objectid;
    key->min_type = last->type;
    key->min_offset = last->offset + 1;
    if (key->min_offset == 0 && ++key->min_type > UINT8_MAX) {
        key->min_type = 0;
        key->min_objectid++;
        return key->min_objectid != 0;
    }
    return true;
}

static struct err *count(const char *subvolume, uint64_t generation, int64_t budget_ms, int64_t *ret_bytes)
{
    autofree struct btrfs_ioctl_search_args_v2 *args = mem_alloc(1, sizeof(*args) + SEARCH_BYTES);
    autofd int fd = open(subvolume, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int64_t end = clock_mono_ms() + budget_ms, bytes = 0;
    struct btrfs_ioctl_search_header h = {0};

    if (fd < 0)
        return err_errno(errno, "'%s'", subvolume);
    args->key = (struct btrfs_ioctl_search_key){.max_objectid = UINT64_MAX,
                                                .max_offset = UINT64_MAX,
                                                .max_transid = UINT64_MAX,
                                                .max_type = UINT8_MAX,
                                                .min_transid = generation + 1};
    for (bool more = true; more; more = next_key(&args->key, &h)) {
        const char *p = (const char *)args->buf;

        args->buf_size = SEARCH_BYTES;
        args->key.nr_items = UINT32_MAX;
        if (ioctl(fd, BTRFS_IOC_TREE_SEARCH_V2, args) < 0)
            return err_errno(errno, "cannot read the tree of '%s'", subvolume);
        if (args->key.nr_items == 0)
            break;
        if (clock_mono_ms() > end) {
            *ret_bytes = -1;
            return NULL;
        }
        for (uint32_t i = 0; i < args->key.nr_items; i++) {
            memcpy(&h, p, sizeof(h));
            bytes += item_bytes(&h, p + sizeof(h), generation);
            p += sizeof(h) + h.len;
        }
    }
    *ret_bytes = bytes;
    return NULL;
}

struct err *change_bytes(const char *snapshot, const char *rootfs, const char *previous, int64_t budget_ms,
                         int64_t *ret_bytes)
{
    uint64_t generation = 0;
    struct err *e = find_base(snapshot, rootfs, previous, &generation);

    return e ? e : count(snapshot, generation, budget_ms, ret_bytes);
}
