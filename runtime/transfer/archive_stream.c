/* SPDX-License-Identifier: Apache-2.0 */
#include "runtime/transfer/archive_stream.h"

#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>

#include "base/failpoint.h"
#include "base/fd.h"
#include "base/id.h"
#include "base/str.h"
#include "provisioning/container_archive.h"
#include "runtime/container/seeding.h"
#include "runtime/transfer/sets.h"
#include "storage/layout.h"
#include "storage/subvolume.h"
#include "transfer/inflate.h"

#define ITS_NAME "the archive"

static struct err *send_sets(struct sets_out *o, const struct job_export *a, const char *root)
{
    json_t *snapshot;
    struct err *e = NULL;
    size_t i;

    json_array_foreach(json_object_get(a->header, "snapshots"), i, snapshot)
    {
        const char *name = json_string_value(json_object_get(snapshot, "name"));
        bool there = true;

        if (!e)
            e = sets_out_snapshot(o, name, &there);
        if (!e && !there)
            e = err_new(ERR_HOST, "the snapshot '%s' is gone", name);
    }
    if (!e)
        e = sets_out_root(o, root);
    return e ? e : sets_out_end(o);
}

/* What fails when bytes are under way is said in the file, too: whoever imports it is told. */
static struct err *write_stream(const struct job *job, const struct job_export *a, const char *root, json_t **ret)
{
    const struct wire_config config = {
        .fd = job->stream, .other = "who takes the archive", .wrong = ERR_HOST, .cut = ERR_CANCELLED, .packed = true};
    auto_(sets_out_free) struct sets_out *sets = NULL;
    auto_(wire_free) struct wire *wire = NULL;
    autojson head = json_pack("{s:O}", "header", a->header);
    struct err *e = wire_new(&config, &wire);

    if (!e)
        e = fd_write_all(job->stream, STREAM_MAGIC, STREAM_MAGIC_LEN);
    if (e)
        return e;
    sets = sets_out_new(job, wire, root);
    e = wire_send_frame(wire, head);
    if (!e)
        e = send_sets(sets, a, root);
    if (e)
        wire_send_error(wire, e);
    else
        *ret = json_pack("{s:I}", "bytes", (json_int_t)wire_bytes(wire));
    return e;
}

struct err *stream_export(const struct job *job, const struct job_export *a, json_t **ret)
{
    const char *pool = job->target.pool;
    int64_t slot = job->target.slot;
    autofree char *dir = layout_slot(pool, slot), *root = NULL;
    autofree char *source = a->snapshot ? layout_snapshot(pool, slot, a->snapshot) : layout_rootfs(pool, slot);
    char id[ID_OBJECT_LEN + 1];
    struct err *e;

    id_object(id);
    root = str_fmt("%s/" LAYOUT_TEMPORARY "export-%s", dir, id);
    e = subvolume_snapshot(source, root, true);
    if (!e)
        e = failpoint("export.snapshot");
    if (!e)
        e = write_stream(job, a, root, ret);
    return err_first(e, sets_out_tidy(pool, root));
}

bool stream_is_one(int fd)
{
    char first = 0;
    ssize_t n;

    do
        n = recv(fd, &first, 1, MSG_PEEK);
    while (n < 0 && errno == EINTR);
    return n == 1 && first == STREAM_MAGIC[0];
}

static struct err *read_magic(int fd)
{
    char magic[STREAM_MAGIC_LEN];
    ssize_t n = recv(fd, magic, sizeof(magic), MSG_WAITALL);

    if (n == STREAM_MAGIC_LEN && memcmp(magic, STREAM_MAGIC, STREAM_MAGIC_LEN) == 0)
        return NULL;
    return err_new(ERR_INVALID, "this is no archive of a container, or one of a newer kind");
}

static struct err *read_header(struct wire *wire, json_t **ret, json_t **ret_names)
{
    autojson frame = NULL;
    autojson names = json_array();
    struct err *e = wire_receive_frame(wire, &frame);
    const json_t *header = json_object_get(frame, "header");
    json_t *snapshot;
    size_t i;

    if (!e)
        e = container_archive_check_header(header);
    if (e)
        return e;
    json_array_foreach(json_object_get(header, "snapshots"), i, snapshot)
        json_array_append(names, json_object_get(snapshot, "name"));
    *ret = json_incref((json_t *)(uintptr_t)header);
    *ret_names = steal(&names);
    return NULL;
}

static struct err *receive(const struct job *job, struct wire *wire, struct sets_rules *rules, json_t **ret_header,
                           json_t **ret_names)
{
    autojson announced = NULL;
    struct err *e = read_header(wire, ret_header, &announced);

    rules->snapshots = announced;
    if (!e)
        e = sets_receive(job, wire, rules, ret_names);
    if (e && e->code == ERR_TOO_LARGE && announced) /* longer than what is free */
        e = err_wrap(err_recode(e, ERR_HOST), "the storage pool has no room for it");
    if (!e && json_array_size(*ret_names) != json_array_size(announced))
        e = err_new(ERR_INVALID, ITS_NAME " has not all the snapshots that it announces");
    return e ? e : wire_receive_end(wire);
}

/* Everything has arrived; the next step that shows is the last rename. */
static struct err *take_over(const struct job *job, const json_t *names, const json_t *header,
                             const struct job_import *a)
{
    autofree char *slot = layout_slot(job->target.pool, job->target.slot);
    autofree char *came = layout_temporary(slot, "base"), *made = layout_temporary(slot, "root");
    struct err *e = subvolume_root(came, made, came);

    if (!e)
        e = sets_place_snapshots(job, names);
    if (!e)
        e = seeding_imported(job, made, a, header);
    return e ? e : subvolume_delete(job->target.pool, came);
}

struct err *stream_import(const struct job *job, const struct job_import *a, int64_t bytes_max, json_t **ret)
{
    struct wire_config config = {.fd = -1, .other = ITS_NAME, .wrong = ERR_INVALID, .cut = ERR_INVALID};
    struct sets_rules rules = {
        .bytes_max = bytes_max, .reserve = a->reserve_bytes, .other = ITS_NAME, .wrong = ERR_INVALID, .digest = true};
    autofree char *empty = str_fmt("%s/empty", job->target.run_dir);
    autojson header = NULL;
    autojson names = NULL;
    auto_(wire_free) struct wire *wire = NULL;
    struct err *e = read_magic(job->stream);

    if (!e)
        e = inflate_open(job->stream, empty, &config.fd);
    if (!e)
        e = wire_new(&config, &wire);
    if (!e)
        e = receive(job, wire, &rules, &header, &names);
    if (!e)
        e = take_over(job, names, header, a);
    if (!e)
        *ret = json_pack("{s:O, s:I}", "header", header, "bytes", (json_int_t)wire_bytes(wire));
    fd_closep(&config.fd);
    return e;
}
