/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The sending side. What is sent of the root file system is a snapshot of its own in the slot's directory "sent": the
 * container goes on, and the next sync of the same copy is the difference to it. A copy has two of them at most: the
 * one that it said it has, and the one that was sent last, of which nobody knows yet whether it has arrived.
 */

#include "base/failpoint.h"
#include "base/fd.h"
#include "base/id.h"
#include "base/str.h"
#include "images/image.h"
#include "runtime/names.h"
#include "runtime/transfer/peer.h"
#include "runtime/transfer/sets.h"
#include "storage/layout.h"
#include "storage/send.h"
#include "storage/subvolume.h"

enum { SENT_MAX = 32 }; /* of one container */

struct outgoing {
    const struct job *job;
    const struct job_peer_send *args;
    struct sets_out *sets;
    char *dir;  /* "sent" */
    char *work; /* names of passing snapshots begin so */
};

static void outgoing_clear(struct outgoing *o)
{
    sets_out_free(o->sets);
    free(o->dir);
    free(o->work);
}

static void discard(const struct outgoing *o, const char *name)
{
    autofree char *path = str_fmt("%s/%s", o->dir, name);

    /* One that is being sent this moment cannot go; the next time it can. */
    err_ignore(subvolume_delete(o->job->target.pool, path));
}

/* Passing snapshots of this copy go, and its sent ones but for the one that it has; that one's path is *ret_base. */
static struct err *tidy(const struct outgoing *o, const char *base, char **ret_base)
{
    auto_(names_free) struct names *names = NULL;
    struct err *e = sets_out_tidy(o->job->target.pool, o->work);

    if (!e && ret_base)
        e = names_list(o->dir, &names);
    for (size_t i = 0; !e && names && i < names->count; i++) {
        const char *name = names->name[i];
        autofree char *path = str_fmt("%s/%s", o->dir, name);
        char uuid[SEND_NAME_SIZE];

        if (strncmp(name, o->args->copy, strlen(o->args->copy)) != 0)
            continue;
        if (base && !*ret_base && send_name(path, uuid, NULL) && str_eq(uuid, base))
            *ret_base = steal(&path);
        else
            discard(o, name);
    }
    return e;
}

/* Copies that are gone do not say so: the oldest go. */
static struct err *make_room(const struct outgoing *o)
{
    auto_(names_free) struct names *names = NULL;
    struct err *e = names_list(o->dir, &names);

    while (!e && names->count >= SENT_MAX) {
        size_t oldest = 0;
        int64_t at = INT64_MAX;

        for (size_t i = 0; i < names->count; i++) {
            autofree char *path = str_fmt("%s/%s", o->dir, names->name[i]);
            char uuid[SEND_NAME_SIZE];
            int64_t made = 0;

            if (send_name(path, uuid, &made) && made < at) {
                at = made;
                oldest = i;
            }
        }
        discard(o, names->name[oldest]);
        free(names->name[oldest]);
        names->name[oldest] = names->name[--names->count];
    }
    return e;
}

static struct err *choose_parent(struct outgoing *o)
{
    autofree char *base = NULL, *image = NULL;
    struct err *e = tidy(o, o->args->base, &base);

    if (!e && base)
        return sets_out_parent(o->sets, base, PARENT_BASE);
    if (!e && o->args->image && image_fingerprint_ok(o->args->image)) {
        /* The same contents, but only what shares its tree makes a small difference. */
        image = image_base_path(o->job->target.pool, o->args->image, o->args->image_base);
        if (subvolume_exists(image))
            return sets_out_parent(o->sets, image, PARENT_IMAGE);
    }
    return e;
}

static struct err *send_root(struct outgoing *o)
{
    const char *pool = o->job->target.pool, *snapshot = o->args->snapshot;
    int64_t slot = o->job->target.slot;
    autofree char *source = snapshot ? layout_snapshot(pool, slot, snapshot) : layout_rootfs(pool, slot), *kept = NULL;
    char id[ID_OBJECT_LEN + 1];
    struct err *e = snapshot && !layout_name_ok(snapshot) ? err_field("snapshot", "is no valid name") : make_room(o);

    id_object(id);
    kept = str_fmt("%s/%s.%s", o->dir, o->args->copy, id);
    if (!e)
        e = subvolume_snapshot(source, kept, true);
    if (!e)
        e = failpoint("peer.kept");
    return e ? e : sets_out_root(o->sets, kept);
}

/* A snapshot that has expired since it was asked for is passed over. */
static struct err *send_all(struct outgoing *o)
{
    json_t *name;
    bool there;
    size_t i;
    struct err *e = choose_parent(o);

    json_array_foreach(o->args->snapshots, i, name)
    {
        if (!e)
            e = json_is_string(name) ? sets_out_snapshot(o->sets, json_string_value(name), &there)
                                     : err_field("snapshots", "must be names");
    }
    if (!e)
        e = send_root(o);
    return e ? e : sets_out_end(o->sets);
}

static void begin(struct outgoing *o)
{
    o->dir = layout_sent(o->job->target.pool, o->job->target.slot);
    o->work = str_fmt("%s/" LAYOUT_TEMPORARY "%s", o->dir, o->args->copy);
}

struct err *job_do_peer_send(const struct job *job, void *args, json_t **ret)
{
    __attribute__((cleanup(outgoing_clear))) struct outgoing o = {.job = job, .args = args};
    const struct wire_config config = {
        .fd = job->stream, .other = PEER_OTHER, .wrong = ERR_HOST, .cut = ERR_CANCELLED, .packed = o.args->packed};
    auto_(wire_free) struct wire *wire = NULL;
    struct err *e = job->stream < 0 ? err_new(ERR_INTERNAL, "there is no stream") : NULL;

    begin(&o);
    if (!e)
        e = fd_mkdirs(o.dir, 0700);
    if (!e)
        e = wire_new(&config, &wire);
    if (e)
        return e;
    o.sets = sets_out_new(job, wire, o.work);
    e = send_all(&o);
    if (e)
        wire_send_error(wire, e);
    err_ignore(tidy(&o, NULL, NULL));
    if (!e)
        *ret = json_pack("{s:I}", "bytes", (json_int_t)wire_bytes(wire));
    return e;
}

struct err *job_do_peer_forget(const struct job *job, void *args, UNUSED json_t **ret)
{
    const struct job_peer_forget *a = args;
    const struct job_peer_send of = {.copy = a->copy};
    __attribute__((cleanup(outgoing_clear))) struct outgoing o = {.job = job, .args = &of};
    autofree char *base = NULL;

    begin(&o);
    return tidy(&o, NULL, &base);
}
