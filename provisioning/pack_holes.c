/* SPDX-License-Identifier: Apache-2.0 */
#include "provisioning/pack_holes.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"

struct regions {
    struct pack_region *all;
    size_t count, size;
};

static void add(struct regions *r, int64_t at, int64_t end)
{
    if (r->count == r->size) {
        r->size = r->size ? r->size * 2 : 16;
        r->all = mem_grow(r->all, r->size, sizeof(*r->all));
    }
    r->all[r->count++] = (struct pack_region){at, end - at};
}

static struct err *find_regions(int fd, int64_t size, struct regions *r)
{
    int64_t at = 0;

    while (at < size) {
        int64_t data = lseek(fd, at, SEEK_DATA), hole;

        if (data < 0 && errno != ENXIO)
            return err_errno(errno, "cannot find the data of a file");
        if (data < 0 || data >= size)
            return NULL;
        hole = r->count + 1 < PACK_REGIONS_MAX ? lseek(fd, data, SEEK_HOLE) : size;
        if (hole <= data)
            return err_errno(hole < 0 ? errno : EIO, "cannot find the holes of a file");
        at = MIN(hole, size);
        add(r, data, at);
    }
    return NULL;
}

bool pack_path_allows_map(const char *path)
{
    size_t len = strlen(path);
    bool ascii = true;

    for (size_t i = 0; i < len; i++)
        ascii = ascii && (unsigned char)path[i] < 0x80;
    if (ascii || len < 100)
        return true;
    for (size_t i = 0; i < len && i <= 150; i++)
        if (path[i] == '/' && len - i - 1 <= 98)
            return true;
    return false;
}

static int64_t sum(const struct regions *r)
{
    int64_t total = 0;

    for (size_t i = 0; i < r->count; i++)
        total += r->all[i].len;
    return total;
}

struct err *pack_regions(int fd, const char *path, int64_t size, struct pack_region **ret, size_t *ret_count)
{
    struct regions r = {0};
    struct err *e = NULL;
    bool whole = false;

    *ret = NULL;
    *ret_count = 0;
    if (size > PACK_SIZE_MAX)
        return err_new(ERR_HOST, "it has more than %lld bytes: a tar archive cannot hold it, the format 'stream' can",
                       (long long)PACK_SIZE_MAX);
    if (size <= 0 || lseek(fd, 0, SEEK_HOLE) >= size) /* most files: one question, no hole */
        return NULL;
    e = find_regions(fd, size, &r);
    if (!e && !pack_path_allows_map(path)) {
        whole = true;
        if (size - sum(&r) > PACK_ZEROS_MAX)
            e = err_new(ERR_HOST, "it is sparse and its path is not ASCII and too long for a tar archive to say where "
                                  "its holes are: give it a shorter name, or use the format 'stream'");
    }
    if (!e && r.count == 0)
        add(&r, (size - 1) % PACK_ALIGNMENT != 0 ? size - 1 : MAX(size - 2, 0), size);
    if (e || whole || (r.count == 1 && r.all[0].len == size)) {
        free(r.all);
        return e;
    }
    *ret = r.all;
    *ret_count = r.count;
    return NULL;
}
