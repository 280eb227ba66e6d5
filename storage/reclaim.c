/* SPDX-License-Identifier: Apache-2.0 */
#include "storage/reclaim.h"

#include <btrfsutil.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/failpoint.h"
#include "base/fd.h"
#include "base/id.h"
#include "base/str.h"
#include "storage/layout.h"
#include "storage/nested.h"
#include "storage/quota.h"
#include "storage/subvolume.h"

/* Slot directories are two levels deep; anything deeper in the trash is not ours. */
#define DEPTH 4
#define TIME_DIGITS 12 /* ms since 1970, in hex: names are in the order of time */

char *reclaim_place(const char *pool)
{
    autofree char *trash = layout_trash(pool);
    char id[ID_OBJECT_LEN + 1];

    id_object(id);
    return str_fmt("%s/%0*llx-%s", trash, TIME_DIGITS, (unsigned long long)clock_wall_ms(), id);
}

static int by_age(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

static int is_entry(const struct dirent *d)
{
    return strcmp(d->d_name, ".") != 0 && strcmp(d->d_name, "..") != 0;
}

/* A directory's entries, in the order of their names. */
struct listing {
    struct dirent **entries;
    int count; /* -1: it could not be read */
};

static void listing_clear(struct listing *l)
{
    for (int i = 0; i < l->count; i++)
        free(l->entries[i]);
    if (l->count >= 0)
        free(l->entries);
}
#define AUTO_LISTING __attribute__((cleanup(listing_clear))) struct listing

static struct listing list(const char *dir)
{
    struct listing l = {0};

    l.count = scandir(dir, &l.entries, is_entry, by_age);
    return l;
}

void reclaim_ids_clear(struct reclaim_ids *ids)
{
    free(ids->id);
    *ids = (struct reclaim_ids){0};
}

static void ids_add(struct reclaim_ids *ids, uint64_t id)
{
    ids->id = mem_grow(ids->id, ids->count + 1, sizeof(*ids->id));
    ids->id[ids->count++] = id;
}

static int compare_ids(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

/* Those that are in the kernel's queue stay. */
static void ids_keep(struct reclaim_ids *ids, uint64_t *queue, size_t count)
{
    size_t n = 0;

    qsort(queue, count, sizeof(*queue), compare_ids);
    for (size_t i = 0; i < ids->count; i++)
        if (count && bsearch(&ids->id[i], queue, count, sizeof(*queue), compare_ids))
            ids->id[n++] = ids->id[i];
    ids->count = n;
}

/* A subvolume with all in it, a directory of subvolumes, or a file. */
static struct err *destroy(const char *path, int depth, struct reclaim_ids *ours)
{
    struct err *e = NULL;
    uint64_t id = 0;

    if (subvolume_exists(path)) {
        bool known = btrfs_util_subvolume_id(path, &id) == BTRFS_UTIL_OK;

        e = nested_destroy(path);
        if (!e && known)
            ids_add(ours, id);
        return e;
    }
    if (unlink(path) == 0 || errno == ENOENT)
        return NULL;
    if (errno == EISDIR && depth > 0) {
        AUTO_LISTING l = list(path);

        for (int i = 0; i < l.count; i++) {
            autofree char *child = str_fmt("%s/%s", path, l.entries[i]->d_name);

            e = err_first(e, destroy(child, depth - 1, ours));
        }
        if (e || rmdir(path) == 0 || errno == ENOENT)
            return e;
    }
    return err_errno(errno, "cannot remove '%s'", path);
}

static struct err *count_reclaimed(int fd, const char *pool, uint64_t **ret_ids, size_t *ret_count)
{
    if (btrfs_util_deleted_subvolumes_fd(fd, ret_ids, ret_count) != BTRFS_UTIL_OK)
        return err_errno(errno, "cannot list what is deleted in '%s'", pool);
    return NULL;
}

static struct err *open_pool(const char *pool, int *ret_fd)
{
    *ret_fd = open(pool, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return *ret_fd < 0 ? err_errno(errno, "'%s'", pool) : NULL;
}

struct err *reclaim_run(const char *pool, int64_t most, struct reclaim_ids *ours)
{
    autofree char *trash = layout_trash(pool);
    AUTO_LISTING l = list(trash);
    autofd int fd = -1;
    struct err *first = NULL, *e = open_pool(pool, &fd);

    if (!e && l.count < 0)
        e = err_errno(errno, "cannot list '%s'", trash);
    for (int i = 0; !e && i < MAX(l.count, 1); i++) {
        autofree char *path = i < l.count ? str_fmt("%s/%s", trash, l.entries[i]->d_name) : NULL;
        autofree uint64_t *ids = NULL;
        size_t count = 0;

        e = count_reclaimed(fd, pool, &ids, &count);
        if (e)
            break;
        ids_keep(ours, ids, count);
        if (!path || (int64_t)ours->count >= most)
            break;
        e = failpoint("reclaim.destroy");
        if (!e)
            first = err_first(first, destroy(path, DEPTH, ours));
    }
    return err_first(e, first);
}

static int64_t bytes_below(const char *path, int depth)
{
    int64_t bytes = 0;

    if (subvolume_exists(path)) {
        bytes = quota_own(path);
        return MAX(bytes, (int64_t)0);
    }
    if (depth > 0) {
        AUTO_LISTING l = list(path);

        for (int i = 0; i < l.count; i++) {
            autofree char *child = str_fmt("%s/%s", path, l.entries[i]->d_name);

            bytes += bytes_below(child, depth - 1);
        }
    }
    return bytes;
}

struct err *reclaim_read(const char *pool, struct reclaim_state *ret)
{
    autofree char *trash = layout_trash(pool);
    AUTO_LISTING l = list(trash);
    autofree uint64_t *ids = NULL;
    autofd int fd = -1;
    size_t count = 0;
    struct err *e = open_pool(pool, &fd);

    *ret = (struct reclaim_state){.waiting = MAX(l.count, 0), .bytes = -1};
    if (l.count > 0)
        ret->oldest_ms = (int64_t)strtoull(l.entries[0]->d_name, NULL, 16);
    if (!e)
        e = count_reclaimed(fd, pool, &ids, &count);
    ret->reclaimed = (int64_t)count;
    if (e || !quota_is_on(pool))
        return e;
    ret->bytes = bytes_below(trash, DEPTH);
    for (size_t i = 0; i < count; i++)
        ret->bytes += MAX(quota_of_id(fd, ids[i]), (int64_t)0);
    return NULL;
}

struct err *reclaim_accounts(const char *pool, uint64_t **ret, size_t *ret_count)
{
    autofree uint64_t *ids = NULL;
    autofd int fd = -1;
    size_t count = 0;
    struct err *e = open_pool(pool, &fd);

    if (!e)
        e = count_reclaimed(fd, pool, &ids, &count);
    if (e)
        return e;
    count = MIN(count, (size_t)RECLAIM_CHARGED_MAX);
    for (size_t i = 0; i < count; i++)
        ids[i] = quota_account_of_id(fd, ids[i]);
    *ret = steal(&ids);
    *ret_count = count;
    return NULL;
}
