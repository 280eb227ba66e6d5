/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The sending side. What is sent of the root file system is a snapshot of its own in the slot's directory "sent": the
 * container goes on, and the next sync of the same copy is the difference to it. A copy has two of them at most: the
 * one that it said it has, and the one that was sent last, of which nobody knows yet whether it has arrived.
 */
#include <errno.h>
#include <fcntl.h>

#include "base/clock.h"
#include "base/failpoint.h"
#include "base/fd.h"
#include "base/id.h"
#include "base/str.h"
#include "images/image.h"
#include "runtime/names.h"
#include "runtime/peer.h"
#include "storage/layout.h"
#include "storage/nested.h"
#include "storage/send.h"
#include "storage/subvolume.h"
#include "transfer/wire.h"

enum { PROGRESS_US = 500000, SENT_MAX = 32 }; /* of one container */

struct outgoing {
    const struct job *job;
    const struct job_peer_send *args;
    struct wire *wire;
    char *dir;        /* "sent" */
    char *work;       /* names of passing snapshots begin so */
    int parent, root; /* the set that the next one is the difference to, or -1; the set being sent */
    const char *parent_word;
    json_t *nested; /* of that set: [{"path", "readonly"}] */
    int64_t streams, told_us;
};

static void outgoing_clear(struct outgoing *o)
{
    wire_free(o->wire);
    free(o->dir);
    free(o->work);
    fd_closep(&o->parent);
    fd_closep(&o->root);
    json_decref(o->nested);
}

static struct err *open_dir(const char *path, int *ret)
{
    *ret = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return *ret < 0 ? err_errno(errno, "'%s'", path) : NULL;
}

/* Each piece; noded is told now and then how many there were. */
static struct err *give(void *owner, const void *data, size_t len)
{
    struct outgoing *o = owner;
    int64_t now = clock_mono_us();

    if (now - o->told_us > PROGRESS_US) {
        o->told_us = now;
        job_progress(o->job, wire_bytes(o->wire), 0);
    }
    return wire_send(o->wire, data, len);
}

static struct err *send_one(struct outgoing *o, const char *set, const char *name, const char *path, bool readonly)
{
    autofd int fd = nested_open(o->root, path), parent = o->parent < 0 ? -1 : nested_open(o->parent, path);
    autojson head = json_pack("{s:{s:s, s:s?, s:s, s:b, s:s}}", "stream", "set", set, "name", name, "path", path,
                              "readonly", readonly, "parent", parent < 0 ? PEER_NONE : o->parent_word);
    struct err *e;

    if (fd < 0)
        return err_new(ERR_HOST, "the subvolume '%s' is gone", path);
    o->streams++;
    e = wire_send_frame(o->wire, head);
    if (!e)
        e = send_stream_at(fd, parent, give, o);
    if (!e)
        e = failpoint("peer.sent");
    return e ? e : wire_send_end(o->wire);
}

static struct err *note_nested(void *owner, const char *path, bool readonly)
{
    struct outgoing *o = owner;

    json_array_append_new(o->nested, json_pack("{s:s, s:b}", "path", path, "readonly", readonly));
    return NULL;
}

/* A set; root is a snapshot of our own when something is nested in it, since only read-only ones can be sent. */
static struct err *send_set(struct outgoing *o, const char *root, const char *set, const char *name)
{
    json_t *n;
    size_t i;
    struct err *e = open_dir(root, &o->root);

    json_decref(o->nested);
    o->nested = json_array();
    if (!e)
        e = nested_each(root, note_nested, o);
    if (!e && json_array_size(o->nested))
        e = nested_set_readonly(root, true);
    if (!e)
        e = send_one(o, set, name, "", true);
    json_array_foreach(o->nested, i, n)
    {
        if (!e)
            e = send_one(o, set, name, json_string_value(json_object_get(n, "path")),
                         json_is_true(json_object_get(n, "readonly")));
    }
    fd_closep(&o->parent);
    o->parent = fd_steal(&o->root);
    o->parent_word = PEER_PREVIOUS;
    return e;
}

static struct err *send_snapshot(struct outgoing *o, const char *name)
{
    autofree char *path = layout_snapshot(o->job->target.pool, o->job->target.slot, name);
    autofree char *work = str_fmt("%s.%s", o->work, name);
    bool nested = false;
    struct err *e = layout_name_ok(name) ? NULL : err_field("snapshots", "has a name that is none");

    if (!e && !subvolume_exists(path))
        return NULL; /* it has expired since it was asked for */
    if (!e)
        e = nested_exist(path, &nested);
    if (!e && nested)
        e = subvolume_snapshot(path, work, true);
    return e ? e : send_set(o, nested ? work : path, PEER_SET_SNAPSHOT, name);
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
    const char *work = strrchr(o->work, '/') + 1;
    struct err *e = names_list(o->dir, &names);

    for (size_t i = 0; !e && i < names->count; i++) {
        const char *name = names->name[i];
        autofree char *path = str_fmt("%s/%s", o->dir, name);
        char uuid[SEND_NAME_SIZE];

        if (strncmp(name, work, strlen(work)) == 0)
            discard(o, name);
        else if (!ret_base || strncmp(name, o->args->copy, strlen(o->args->copy)) != 0)
            continue;
        else if (base && !*ret_base && send_name(path, uuid, NULL) && str_eq(uuid, base))
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

    if (!e && base) {
        o->parent_word = PEER_BASE;
        return open_dir(base, &o->parent);
    }
    if (!e && o->args->image && image_fingerprint_ok(o->args->image)) {
        /* The same contents, but only what shares its tree makes a small difference. */
        image = image_base_path(o->job->target.pool, o->args->image, o->args->image_base);
        o->parent_word = PEER_IMAGE;
        if (subvolume_exists(image))
            return open_dir(image, &o->parent);
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
    return e ? e : send_set(o, kept, PEER_SET_ROOT, NULL);
}

static struct err *send_all(struct outgoing *o)
{
    autojson end = NULL;
    json_t *name;
    size_t i;
    struct err *e = choose_parent(o);

    json_array_foreach(o->args->snapshots, i, name)
    {
        if (!e)
            e = json_is_string(name) ? send_snapshot(o, json_string_value(name))
                                     : err_field("snapshots", "must be names");
    }
    if (!e)
        e = send_root(o);
    end = json_pack("{s:{s:I}}", "end", "streams", (json_int_t)o->streams);
    return e ? e : wire_send_frame(o->wire, end);
}

static void begin(struct outgoing *o)
{
    o->dir = layout_sent(o->job->target.pool, o->job->target.slot);
    o->work = str_fmt("%s/" LAYOUT_TEMPORARY "%s", o->dir, o->args->copy);
    o->parent_word = PEER_NONE;
}

struct err *job_do_peer_send(const struct job *job, void *args, json_t **ret)
{
    __attribute__((cleanup(outgoing_clear))) struct outgoing o = {.job = job, .args = args, .parent = -1, .root = -1};
    struct err *e = job->stream < 0 ? err_new(ERR_INTERNAL, "there is no stream") : NULL;

    begin(&o);
    if (!e)
        e = fd_mkdirs(o.dir, 0700);
    if (!e)
        e = wire_new(job->stream, &o.wire);
    if (e)
        return e;
    e = send_all(&o);
    if (e)
        wire_send_error(o.wire, e);
    err_ignore(tidy(&o, NULL, NULL));
    if (!e)
        *ret = json_pack("{s:I}", "bytes", (json_int_t)wire_bytes(o.wire));
    return e;
}

struct err *job_do_peer_forget(const struct job *job, void *args, UNUSED json_t **ret)
{
    const struct job_peer_forget *a = args;
    const struct job_peer_send of = {.copy = a->copy};
    __attribute__((cleanup(outgoing_clear))) struct outgoing o = {.job = job, .args = &of, .parent = -1, .root = -1};
    autofree char *base = NULL;

    begin(&o);
    return tidy(&o, NULL, &base);
}
