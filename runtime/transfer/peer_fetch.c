/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The receiving side. What comes as "base" stays, for the next difference; the slot's own root file system is made from
 * it as from an image.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>

#include "base/failpoint.h"
#include "base/fd.h"
#include "base/str.h"
#include "images/image.h"
#include "runtime/container/seeding.h"
#include "runtime/container/sync.h"
#include "runtime/transfer/peer.h"
#include "runtime/transfer/sets.h"
#include "storage/layout.h"
#include "storage/send.h"
#include "storage/subvolume.h"
#include "transfer/inflate.h"
#include "transfer/link.h"

struct incoming {
    const struct job *job;
    const struct job_peer_fetch *args;
    struct wire *wire;
    char *slot, *snapshots; /* directories */
    json_t *got;            /* names of snapshots */
};

static void incoming_clear(struct incoming *in)
{
    wire_free(in->wire);
    free(in->slot);
    free(in->snapshots);
    json_decref(in->got);
}

/* What this node has, so that less must be sent. */
static json_t *request(const struct incoming *in)
{
    const char *pool = in->job->target.pool;
    autofree char *base = layout_base(pool, in->job->target.slot);
    autofree char *image =
        in->args->image && image_fingerprint_ok(in->args->image) ? layout_image(pool, in->args->image) : NULL;
    char uuid[SEND_NAME_SIZE];

    return json_pack("{s:b, s:s, s:s?, s:s?, s:s?, s:O}", "packed", 1, "copy", in->args->copy, "base",
                     send_name(base, uuid, NULL) ? uuid : NULL, "image",
                     image && subvolume_exists(image) ? in->args->image : NULL, "snapshot", in->args->snapshot,
                     "snapshots", in->args->snapshots);
}

/* A node that has too much to do says so; it is asked again for some minutes. */
static struct err *ask(const struct incoming *in, int *ret_fd)
{
    enum { TRIES = 60, PAUSE_MS = 5000 };
    autofree char *path = str_fmt("/api/v1/peer/containers/%s/stream", in->args->source);
    autojson body = request(in);

    for (int i = 0;; i++) {
        autojson answer = NULL;
        autofd int fd = -1;
        int status = 0;
        struct err *e = peer_connect(in->job, in->args->peer, &fd);

        if (!e)
            e = link_request(fd, "POST", path, body, true, 0, &status, &answer);
        if (!e && status == 101) {
            *ret_fd = fd_steal(&fd);
            return NULL;
        }
        if (!e && status != 503)
            return err_wrap(link_refusal(status, answer), "the other node");
        if (!e && i >= TRIES)
            return err_new(ERR_UNAVAILABLE, "the other node has too much to do");
        if (e)
            return e;
        (void)poll(NULL, 0, PAUSE_MS);
    }
}

static struct err *receive(struct incoming *in, int fd)
{
    const struct sets_rules rules = {.image = in->args->image,
                                     .base = true,
                                     .snapshots = in->args->snapshots,
                                     .bytes_max = in->args->bytes_max,
                                     .reserve = in->args->reserve,
                                     .other = PEER_OTHER,
                                     .wrong = ERR_HOST,
                                     .named = true};
    autofree char *empty = str_fmt("%s/empty", in->job->target.run_dir);
    struct wire_config config = {.fd = -1, .other = PEER_OTHER, .wrong = ERR_HOST, .cut = ERR_CANCELLED};
    struct err *e = inflate_open(fd, empty, &config.fd);

    if (!e)
        e = wire_new(&config, &in->wire);
    if (!e)
        e = sets_receive(in->job, in->wire, &rules, &in->got);
    fd_closep(&config.fd);
    return e;
}

static struct err *fetch(struct incoming *in)
{
    autofree char *fresh = layout_temporary(in->slot, "base");
    autofd int fd = -1;
    struct err *e = fd_mkdirs(in->snapshots, 0700);

    if (!e)
        e = subvolume_delete(in->job->target.pool, fresh);
    if (!e)
        e = ask(in, &fd);
    if (!e)
        e = receive(in, fd);
    if (!e)
        e = failpoint("peer.fetched");
    return e;
}

static struct err *move_in(const struct incoming *in)
{
    autofree char *fresh = layout_temporary(in->slot, "base");
    autofree char *base = layout_base(in->job->target.pool, in->job->target.slot);
    struct err *e = sets_place_snapshots(in->job, in->got);

    if (!e && rename(fresh, base) < 0)
        e = err_errno(errno, "cannot rename the received subvolume");
    return e;
}

static struct err *make_rootfs(const struct incoming *in)
{
    autofree char *base = layout_base(in->job->target.pool, in->job->target.slot);
    autofree char *made = layout_temporary(in->slot, "root");
    autofree char *rootfs = layout_rootfs(in->job->target.pool, in->job->target.slot);
    struct err *e = subvolume_delete(in->job->target.pool, made);

    if (!e)
        e = subvolume_root(base, made, base);
    if (!e)
        e = seeding(in->job, made, in->args->seed);
    if (!e)
        e = failpoint("peer.seeded");
    if (!e && rename(made, rootfs) < 0)
        e = err_errno(errno, "cannot rename the root file system");
    return e;
}

static void begin(struct incoming *in, const struct job *job, const void *args)
{
    *in = (struct incoming){.job = job, .args = args};
    in->slot = layout_slot(job->target.pool, job->target.slot);
    in->snapshots = layout_snapshots(job->target.pool, job->target.slot);
}

struct err *job_do_peer_copy(const struct job *job, void *args, json_t **ret)
{
    __attribute__((cleanup(incoming_clear))) struct incoming in;
    struct err *e;

    begin(&in, job, args);
    e = fetch(&in);
    if (!e)
        e = move_in(&in);
    if (!e)
        e = make_rootfs(&in);
    if (!e)
        *ret = json_pack("{s:I, s:O}", "bytes", (json_int_t)wire_bytes(in.wire), "snapshots", in.got);
    return e;
}

struct err *job_do_peer_sync(const struct job *job, void *args, json_t **ret)
{
    __attribute__((cleanup(incoming_clear))) struct incoming in;
    autofree char *fresh = NULL;
    struct err *e;

    begin(&in, job, args);
    fresh = layout_temporary(in.slot, "base");
    e = fetch(&in);
    if (!e)
        e = sync_make(job, fresh, in.args->seed);
    if (!e)
        *ret = json_pack("{s:I}", "bytes", (json_int_t)wire_bytes(in.wire));
    return e;
}
