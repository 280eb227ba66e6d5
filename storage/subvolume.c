/* SPDX-License-Identifier: Apache-2.0 */
#include "storage/subvolume.h"

#include <btrfsutil.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/failpoint.h"
#include "base/fd.h"
#include "base/str.h"
#include "storage/layout.h"
#include "storage/nested.h"
#include "storage/quota.h"
#include "storage/reclaim.h"

static struct err *failed(int errnum, const char *verb, const char *path)
{
    struct err *e = err_errno(errnum, "cannot %s '%s'", verb, path);

    if (errnum == EEXIST)
        return err_recode(e, ERR_CONFLICT);
    return errnum == ENOENT ? err_recode(e, ERR_NOT_FOUND) : e;
}

struct err *subvolume_create(const char *path)
{
    if (btrfs_util_create_subvolume(path, 0, NULL, NULL) != BTRFS_UTIL_OK)
        return failed(errno, "create the subvolume", path);
    return NULL;
}

bool subvolume_exists(const char *path)
{
    return btrfs_util_is_subvolume(path) == BTRFS_UTIL_OK;
}

enum kind { SNAPSHOT, READONLY, ROOT };

/* Before nested ones come: they follow it into its account. former: see subvolume_root. */
static struct err *charge(const char *root, const char *former)
{
    return former ? quota_account_pass_on(former, root) : quota_account_open(root);
}

/* The whole comes into being beside its place. The trash would do as well, but a rename from there changes "..", which
 * a read-only subvolume does not allow. */
static struct err *snapshot_whole(const char *src, const char *dst, enum kind kind, const char *former)
{
    const char *name = strrchr(dst, '/') + 1;
    autofree char *dir = strndup(dst, (size_t)(name - dst - 1)), *made = layout_temporary(dir, name);
    struct err *e = nested_destroy(made);

    if (!e && btrfs_util_create_snapshot(src, made, 0, NULL, NULL) != BTRFS_UTIL_OK)
        e = failed(errno, "take a snapshot of", src);
    if (!e && kind == ROOT)
        e = charge(made, former);
    if (!e)
        e = nested_snapshot(src, made);
    if (!e)
        e = failpoint("snapshot.nested");
    if (!e && kind == READONLY)
        e = subvolume_set_readonly(made, true);
    if (!e && rename(made, dst) < 0)
        e = failed(errno, "name the snapshot", dst);
    if (e)
        err_ignore(nested_destroy(made));
    return e;
}

static struct err *snapshot(const char *src, const char *dst, enum kind kind, const char *former)
{
    bool nested = false;
    struct stat st;
    struct err *e;

    /* The library would put the snapshot below a directory that exists, as cp(1) does. */
    if (lstat(dst, &st) == 0)
        return failed(EEXIST, "create the snapshot", dst);
    if (!subvolume_exists(src))
        return failed(access(src, F_OK) == 0 ? EINVAL : ENOENT, "take a snapshot of", src);
    e = nested_exist(src, &nested);
    if (e)
        return e;
    if (nested || kind == ROOT)
        return snapshot_whole(src, dst, kind, former);
    if (btrfs_util_create_snapshot(src, dst, kind == READONLY ? BTRFS_UTIL_CREATE_SNAPSHOT_READ_ONLY : 0, NULL, NULL) !=
        BTRFS_UTIL_OK)
        return failed(errno, "take a snapshot of", src);
    return NULL;
}

struct err *subvolume_snapshot(const char *src, const char *dst, bool readonly)
{
    return snapshot(src, dst, readonly ? READONLY : SNAPSHOT, NULL);
}

struct err *subvolume_root(const char *src, const char *dst, const char *former)
{
    return snapshot(src, dst, ROOT, former);
}

struct err *subvolume_set_readonly(const char *path, bool readonly)
{
    if (btrfs_util_set_subvolume_read_only(path, readonly) != BTRFS_UTIL_OK)
        return failed(errno, "change the read-only flag of", path);
    return NULL;
}

struct err *subvolume_exchange(const char *a, const char *b)
{
    if (renameat2(AT_FDCWD, a, AT_FDCWD, b, RENAME_EXCHANGE) < 0)
        return failed(errno, "exchange", a);
    return NULL;
}

struct err *subvolume_delete(const char *pool, const char *path)
{
    autofree char *trash = layout_trash(pool), *to = reclaim_place(pool);

    if (rename(path, to) == 0)
        return NULL;
    if (errno == ENOENT && access(trash, F_OK) == 0)
        return NULL;
    if (errno != EROFS)
        return failed(errno, "move away", path);
    /* A read-only subvolume cannot change its parent directory: ".." in it would change. */
    err_ignore(subvolume_set_readonly(path, false));
    return rename(path, to) == 0 ? NULL : failed(errno, "move away", path);
}
