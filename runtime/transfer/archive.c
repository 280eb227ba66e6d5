/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A container as one file, out and in. Both ways a child without rights over the host handles what belongs to the
 * container; here it is only said where.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "base/failpoint.h"
#include "base/fd.h"
#include "base/id.h"
#include "base/str.h"
#include "provisioning/confined.h"
#include "provisioning/container_archive.h"
#include "provisioning/sandbox.h"
#include "runtime/container/seeding.h"
#include "runtime/transfer/archive_stream.h"
#include "storage/layout.h"
#include "storage/quota.h"
#include "storage/subvolume.h"

static void tell(void *owner, int64_t bytes)
{
    job_progress(owner, bytes, 0);
}

struct exporting {
    const struct job *job;
    const struct job_export *args;
    const char *root; /* name of the tree that becomes "rootfs", below the slot */
};

/* "/" is the slot's directory. */
static struct err *open_tree(const char *path, struct container_tree *ret)
{
    ret->dir = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return ret->dir < 0 ? err_errno(errno, "'%s'", path) : NULL;
}

static struct err *write_archive(void *arg, json_t **ret)
{
    const struct exporting *x = arg;
    const struct container_archive c = {.fd = x->job->stream, .owner = (void *)(uintptr_t)x->job, .progress = tell};
    const json_t *snapshots = json_object_get(x->args->header, "snapshots");
    size_t count = json_array_size(snapshots) + 1;
    autofree struct container_tree *trees = mem_new_array(struct container_tree, count);
    autofree char *root = str_fmt("/%s", x->root);
    int64_t bytes = 0;
    struct err *e = open_tree(root, &trees[0]);

    trees[0].name = "rootfs";
    for (size_t i = 1; !e && i < count; i++) {
        const json_t *name = json_object_get(json_array_get(snapshots, i - 1), "name");
        autofree char *path = str_fmt("/snapshots/%s", json_string_value(name));

        trees[i].name = str_fmt("snapshots/%s", json_string_value(name)); /* the child ends soon */
        e = open_tree(path, &trees[i]);
    }
    if (!e)
        e = container_archive_write(&c, x->args->header, trees, count, &bytes);
    if (!e)
        *ret = json_pack("{s:I}", "bytes", (json_int_t)bytes);
    return e;
}

static struct err *run_export(const struct exporting *x, const char *slot, json_t **ret)
{
    const int fds[] = {x->job->stream, x->job->channel};
    struct sandbox s = {.rights = SANDBOX_READS, .fds = fds, .fd_count = ARRAY_LEN(fds)};
    autofd int dir = -1;
    struct err *e = confined_open_root(slot, &dir);

    s.root = dir;
    return e ? e : sandbox_run(&s, write_archive, (void *)(uintptr_t)x, ret);
}

/* What runs goes on: the archive is of a snapshot that goes afterwards. */
struct err *job_do_export(const struct job *job, void *args, json_t **ret)
{
    autofree char *slot = layout_slot(job->target.pool, job->target.slot);
    autofree char *rootfs = layout_rootfs(job->target.pool, job->target.slot);
    const struct job_export *a = args;
    autofree char *name = NULL, *path = NULL;
    char id[ID_OBJECT_LEN + 1];
    struct exporting x = {.job = job, .args = a};
    struct err *e;

    if (a->snapshot && !layout_name_ok(a->snapshot))
        return err_field("snapshot", "is no valid name");
    if (a->as_stream)
        return stream_export(job, a, ret);
    if (a->snapshot) {
        name = str_fmt("snapshots/%s", a->snapshot);
        x.root = name;
        return run_export(&x, slot, ret);
    }
    id_object(id);
    name = str_fmt(LAYOUT_TEMPORARY "export-%s", id);
    path = str_fmt("%s/%s", slot, name);
    x.root = name;
    e = subvolume_snapshot(rootfs, path, true);
    if (!e)
        e = failpoint("export.snapshot");
    if (!e)
        e = run_export(&x, slot, ret);
    return err_first(e, subvolume_delete(job->target.pool, path));
}

struct importing {
    const struct job *job;
    int64_t bytes;
};

static struct err *read_archive(void *arg, json_t **ret)
{
    const struct importing *m = arg;
    const struct container_archive c = {.fd = m->job->stream, .bytes = m->bytes};
    autofd int dir = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    return dir < 0 ? err_errno(errno, "the directory") : container_archive_read(&c, dir, ret);
}

/* A sender that is through has shut down its side; one that was cut off has closed it. */
static struct err *check_end(int stream)
{
    struct pollfd p = {.fd = stream, .events = POLLIN};

    if (poll(&p, 1, 0) >= 0 && !(p.revents & (POLLHUP | POLLERR)))
        return NULL;
    return err_new(ERR_CANCELLED, "the sender went away before the end");
}

static struct err *unpack(const struct importing *m, const char *path, json_t **ret)
{
    const int fds[] = {m->job->stream};
    struct sandbox s = {.rights = SANDBOX_MAKES, .fds = fds, .fd_count = 1};
    autofd int dir = -1;
    struct err *e = confined_open_root(path, &dir);

    s.root = dir;
    if (!e)
        e = sandbox_run(&s, read_archive, (void *)(uintptr_t)m, ret);
    return e ? e : check_end(m->job->stream);
}

/* What is left for it in the pool; an archive that holds more is refused before it has filled the last block. */
static struct err *room(const char *pool, int64_t reserve, int64_t *ret)
{
    struct statvfs st;

    if (statvfs(pool, &st) < 0)
        return err_errno(errno, "'%s'", pool);
    *ret = MAX((int64_t)(st.f_bavail * st.f_frsize) - reserve, 0);
    return NULL;
}

/* From where the child has made them to where a container has them. What came as its root counts for it. */
static struct err *take_over(const struct job *job, const char *from, const json_t *header, const struct job_import *a)
{
    autofree char *slot = layout_slot(job->target.pool, job->target.slot);
    autofree char *source = str_fmt("%s/rootfs", from), *made = layout_temporary(slot, "root");
    struct err *e = quota_account_open(source);
    json_t *snapshot;
    size_t i;

    if (!e)
        e = subvolume_root(source, made, source);
    json_array_foreach(json_object_get(header, "snapshots"), i, snapshot)
    {
        const char *name = json_string_value(json_object_get(snapshot, "name"));
        autofree char *src = str_fmt("%s/snapshots/%s", from, name);
        autofree char *dst = layout_snapshot(job->target.pool, job->target.slot, name);

        if (!e)
            e = subvolume_snapshot(src, dst, true);
    }
    return e ? e : seeding_imported(job, made, a, header);
}

struct err *job_do_import(const struct job *job, void *args, json_t **ret)
{
    autofree char *slot = layout_slot(job->target.pool, job->target.slot), *from = layout_temporary(slot, "import");
    autofree char *snapshots = layout_snapshots(job->target.pool, job->target.slot);
    const struct job_import *a = args;
    struct importing m = {.job = job};
    struct err *e = job->stream < 0 ? err_new(ERR_INTERNAL, "there is no stream") : NULL;

    if (!e)
        e = room(job->target.pool, a->reserve_bytes, &m.bytes);
    if (!e)
        e = fd_mkdirs(snapshots, 0700);
    if (!e)
        e = failpoint("import.unpack");
    if (!e && stream_is_one(job->stream))
        return stream_import(job, a, m.bytes, ret);
    if (!e)
        e = fd_mkdirs(from, 0700);
    if (!e)
        e = unpack(&m, from, ret);
    if (!e)
        e = take_over(job, from, json_object_get(*ret, "header"), a);
    if (e && e->code == ERR_TOO_LARGE && strstr(e->message, "bytes when unpacked"))
        e = err_wrap(err_recode(e, ERR_HOST), "the storage pool has no room for it");
    return err_first(e, subvolume_delete(job->target.pool, from));
}
