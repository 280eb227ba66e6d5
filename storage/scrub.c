/* SPDX-License-Identifier: Apache-2.0 */
#include "storage/scrub.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/btrfs.h>
#include <linux/btrfs_tree.h>
#include <string.h>
#include <sys/ioctl.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/str.h"

#define DEV_TREE 4 /* BTRFS_DEV_TREE_OBJECTID */

/* The first extent of a device at or behind `from`; false: there is none. */
static bool next_extent(int fd, uint64_t devid, uint64_t from, uint64_t *ret_start, uint64_t *ret_length)
{
    struct btrfs_ioctl_search_args args = {.key = {.tree_id = DEV_TREE,
                                                   .min_objectid = devid,
                                                   .max_objectid = devid,
                                                   .min_type = BTRFS_DEV_EXTENT_KEY,
                                                   .max_type = BTRFS_DEV_EXTENT_KEY,
                                                   .min_offset = from,
                                                   .max_offset = UINT64_MAX,
                                                   .max_transid = UINT64_MAX,
                                                   .nr_items = 1}};
    struct btrfs_ioctl_search_header h;
    struct btrfs_dev_extent extent;

    if (ioctl(fd, BTRFS_IOC_TREE_SEARCH, &args) < 0 || args.key.nr_items == 0)
        return false;
    memcpy(&h, args.buf, sizeof(h));
    if (h.len < sizeof(extent))
        return false;
    memcpy(&extent, args.buf + sizeof(h), sizeof(extent));
    *ret_start = h.offset;
    *ret_length = le64toh(extent.length);
    return true;
}

static void limit_rate(const struct btrfs_ioctl_fs_info_args *fs, uint64_t devid, int64_t rate)
{
    const __u8 *u = fs->fsid;
    autofree char *path = str_fmt("/sys/fs/btrfs/%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x"
                                  "/devinfo/%llu/scrub_speed_max",
                                  u[0], u[1], u[2], u[3], u[4], u[5], u[6], u[7], u[8], u[9], u[10], u[11], u[12],
                                  u[13], u[14], u[15], (unsigned long long)devid);
    autofree char *text = str_fmt("%lld\n", (long long)rate);
    autofd int fd = open(path, O_WRONLY | O_CLOEXEC);

    if (fd >= 0)
        (void)!write(fd, text, strlen(text));
}

static struct err *scrub_extent(int fd, uint64_t devid, uint64_t start, uint64_t length, struct scrub_part *ret)
{
    struct btrfs_ioctl_scrub_args args = {.devid = devid, .start = start, .end = start + length};
    const struct btrfs_scrub_progress *p = &args.progress;

    if (ioctl(fd, BTRFS_IOC_SCRUB, &args) < 0)
        return errno == EINPROGRESS ? err_new(ERR_BUSY, "somebody else is scrubbing the pool")
                                    : err_errno(errno, "cannot scrub device %llu", (unsigned long long)devid);
    ret->bytes += (int64_t)length;
    ret->errors += (int64_t)(p->read_errors + p->csum_errors + p->verify_errors + p->super_errors);
    ret->corrected += (int64_t)p->corrected_errors;
    return NULL;
}

/* The device after this one; 0: none. Adds up what all have. */
static uint64_t next_device(int fd, const struct btrfs_ioctl_fs_info_args *fs, uint64_t devid, int64_t *ret_total)
{
    uint64_t found = 0;

    *ret_total = 0;
    for (uint64_t id = 1; id <= fs->max_id; id++) {
        struct btrfs_ioctl_dev_info_args dev = {.devid = id};

        if (ioctl(fd, BTRFS_IOC_DEV_INFO, &dev) < 0)
            continue; /* a number that is not used any more */
        *ret_total += (int64_t)dev.bytes_used;
        if (id > devid && !found)
            found = id;
    }
    return found;
}

struct err *scrub_run(const char *pool, int64_t devid, int64_t next, int64_t rate, int64_t budget_ms,
                      struct scrub_part *ret)
{
    autofd int fd = open(pool, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct btrfs_ioctl_fs_info_args fs = {0};
    int64_t end = clock_mono_ms() + budget_ms;
    uint64_t device = (uint64_t)devid, after, start = (uint64_t)next, length = 0;
    struct err *e = NULL;

    *ret = (struct scrub_part){0};
    if (fd < 0 || ioctl(fd, BTRFS_IOC_FS_INFO, &fs) < 0)
        return err_errno(errno, "'%s'", pool);
    after = next_device(fd, &fs, device, &ret->total_bytes);
    if (!device) {
        device = after;
        after = next_device(fd, &fs, device, &ret->total_bytes);
    }
    while (!e && device && clock_mono_ms() < end) {
        limit_rate(&fs, device, rate);
        if (next_extent(fd, device, start, &start, &length)) {
            e = scrub_extent(fd, device, start, length, ret);
            start += length;
        } else {
            device = after;
            start = 0;
            after = next_device(fd, &fs, device, &ret->total_bytes);
        }
    }
    ret->devid = (int64_t)device;
    ret->next = (int64_t)start;
    return e;
}
