/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bringing a copy to the state of its source: the new root is made beside the old one while the copy still runs, so
 * that it is down only for the exchange.
 */
#include "runtime/container/sync.h"

#include <errno.h>
#include <stdio.h>

#include "base/failpoint.h"
#include "base/fd.h"
#include "base/str.h"
#include "provisioning/confined.h"
#include "runtime/container/rootfs.h"
#include "runtime/container/seeding.h"
#include "storage/layout.h"
#include "storage/subvolume.h"

#define HOST_KEY_MAX ((size_t)16 * 1024)

static char *made_path(const struct job *job)
{
    autofree char *slot = layout_slot(job->target.pool, job->target.slot);

    return layout_temporary(slot, "sync");
}

/* Who knows the copy by its keys goes on knowing it. */
static struct err *carry_host_keys(const char *from, const char *to)
{
    static const char *const types[] = {"ed25519", "ecdsa", "rsa"};
    autofd int old = -1, new = -1;
    struct err *e = confined_open_root(from, &old);

    if (!e)
        e = confined_open_root(to, &new);
    for (size_t i = 0; !e && i < 2 * ARRAY_LEN(types); i++) {
        bool public = i % 2;
        autofree char *path = str_fmt("/etc/ssh/ssh_host_%s_key%s", types[i / 2], public ? ".pub" : ""), *key = NULL;
        size_t len = 0;

        e = confined_read(old, path, HOST_KEY_MAX, &key, &len);
        if (!e)
            e = confined_write(new, path, key, len, public ? 0644 : 0600, (struct confined_owner){0, 0});
        else if (e->code == ERR_NOT_FOUND || e->code == ERR_TOO_LARGE) {
            err_free(e); /* the next boot makes fresh ones */
            e = NULL;
        }
    }
    return e;
}

struct err *sync_make(const struct job *job, const char *source, const json_t *seed)
{
    autofree char *rootfs = layout_rootfs(job->target.pool, job->target.slot), *made = made_path(job);
    struct err *e = subvolume_delete(job->target.pool, made);

    if (!e)
        e = subvolume_root(source, made, rootfs);
    if (!e)
        e = failpoint("sync.made");
    if (!e)
        e = seeding(job, made, seed);
    return e ? e : carry_host_keys(rootfs, made);
}

/* What came from another node is what its next difference is to. */
static struct err *keep_base(const struct job *job)
{
    autofree char *slot = layout_slot(job->target.pool, job->target.slot), *fresh = layout_temporary(slot, "base");
    autofree char *base = layout_base(job->target.pool, job->target.slot);

    if (!subvolume_exists(fresh))
        return NULL;
    if (subvolume_exists(base)) {
        struct err *e = subvolume_exchange(fresh, base);

        return e ? e : subvolume_delete(job->target.pool, fresh);
    }
    return rename(fresh, base) < 0 ? err_errno(errno, "cannot rename the received subvolume") : NULL;
}

struct err *job_do_sync_make(const struct job *job, void *args, UNUSED json_t **ret)
{
    const struct job_sync *a = args;
    autofree char *source = NULL;

    if (!layout_slot_ok(a->source_slot) || a->source_slot == job->target.slot)
        return err_field("source_slot", "is no other slot");
    source = layout_rootfs(job->target.pool, a->source_slot);
    return sync_make(job, source, a->seed);
}

struct err *job_do_sync_swap(const struct job *job, UNUSED void *args, UNUSED json_t **ret)
{
    autofree char *made = made_path(job);
    struct err *e = rootfs_replace(job, made, "sync.swapped");

    return e ? e : keep_base(job);
}
