/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The receiving side. Everything comes under temporary names and is used when the whole has arrived with the right
 * checksums: the root file system as "base", from which the slot's own is made as from an image.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/failpoint.h"
#include "base/fd.h"
#include "base/str.h"
#include "images/image.h"
#include "runtime/names.h"
#include "runtime/peer.h"
#include "runtime/seeding.h"
#include "runtime/sync.h"
#include "storage/layout.h"
#include "storage/nested.h"
#include "storage/quota.h"
#include "storage/receive.h"
#include "storage/send.h"
#include "storage/subvolume.h"
#include "transfer/link.h"
#include "transfer/wire.h"

enum { PROGRESS_US = 500000, STREAMS_MAX = 65536 };

struct incoming {
    const struct job *job;
    const struct job_peer_fetch *args;
    struct wire *wire;
    char *slot, *snapshots;   /* directories */
    char *set;                /* path of the set that comes, or NULL */
    char *name;               /* of its snapshot, or NULL: the root file system */
    struct receive_info info; /* of the set's own subvolume */
    int root, parent;         /* the set; what it is the difference to, or -1 */
    json_t *readonly;         /* paths in it that become so in the end */
    json_t *got;              /* names of snapshots */
    bool got_root;
    int64_t streams, told_us;
    struct receiver *receiver;
};

struct stream_head {
    char *set, *name, *path, *parent;
    bool readonly;
};
static const struct json_field head_fields[] = {
    F_STRING(struct stream_head, set, .required = true),    F_STRING(struct stream_head, name, .nullable = true),
    F_STRING(struct stream_head, path, .required = true),   F_STRING(struct stream_head, parent, .required = true),
    F_BOOL(struct stream_head, readonly, .required = true),
};
static JSON_TABLE(head_table, "stream", head_fields);

static void incoming_clear(struct incoming *in)
{
    receive_free(in->receiver);
    wire_free(in->wire);
    fd_closep(&in->root);
    fd_closep(&in->parent);
    free(in->slot);
    free(in->snapshots);
    free(in->set);
    free(in->name);
    json_decref(in->readonly);
    json_decref(in->got);
}

static struct err *wrong(const char *what)
{
    return err_new(ERR_HOST, "the other node sends %s", what);
}

static bool has(const json_t *array, const char *text)
{
    json_t *j;
    size_t i;

    json_array_foreach((json_t *)(uintptr_t)array, i, j) if (str_eq(json_string_value(j), text)) return true;
    return false;
}

/* The set is whole: its parts and it itself become read-only, and it gets the sender's name. */
static struct err *close_set(struct incoming *in)
{
    struct err *e = NULL;
    json_t *path;
    size_t i;

    if (!in->set)
        return NULL;
    json_array_foreach(in->readonly, i, path)
    {
        autofd int fd = nested_open(in->root, json_string_value(path));
        autofree char *self = str_fmt("/proc/self/fd/%d", fd);

        if (!e)
            e = fd < 0 ? wrong("a subvolume that hides another") : subvolume_set_readonly(self, true);
    }
    if (!e)
        e = receive_mark(in->set, &in->info);
    if (!e && in->name)
        json_array_append_new(in->got, json_string(in->name));
    in->got_root = in->got_root || !in->name;
    return e;
}

static struct err *open_subvolume(const char *path, int *ret)
{
    *ret = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return *ret < 0 ? err_errno(errno, "'%s'", path) : NULL;
}

static struct err *choose_parent(struct incoming *in, const char *word)
{
    const char *pool = in->job->target.pool;
    autofree char *path = NULL;

    fd_closep(&in->parent);
    in->parent = -1;
    if (str_eq(word, PEER_NONE))
        return NULL;
    if (str_eq(word, PEER_PREVIOUS) && in->set)
        path = str_dup(in->set);
    else if (str_eq(word, PEER_BASE))
        path = layout_base(pool, in->job->target.slot);
    else if (str_eq(word, PEER_IMAGE) && in->args->image)
        path = layout_image(pool, in->args->image);
    else
        return wrong("a difference to what is not there");
    return open_subvolume(path, &in->parent);
}

static struct err *check_set(const struct incoming *in, const struct stream_head *h)
{
    if (in->got_root)
        return wrong("more behind the root file system");
    if (str_eq(h->set, PEER_SET_ROOT))
        return h->name ? wrong("a root file system with a name") : NULL;
    if (!str_eq(h->set, PEER_SET_SNAPSHOT) || !h->name || !layout_name_ok(h->name))
        return wrong("a set that is none");
    if (!has(in->args->snapshots, h->name) || has(in->got, h->name))
        return wrong("a snapshot that was not asked for");
    return NULL;
}

static struct err *open_set(struct incoming *in, const struct stream_head *h)
{
    struct err *e = close_set(in);

    if (!e)
        e = check_set(in, h);
    if (!e)
        e = choose_parent(in, h->parent);
    if (e)
        return e;
    fd_closep(&in->root);
    in->root = -1;
    free(in->set);
    free(in->name);
    in->name = str_dup(h->name);
    in->set = layout_temporary(h->name ? in->snapshots : in->slot, h->name ? h->name : "base");
    json_array_clear(in->readonly);
    return NULL;
}

static struct err *take(void *owner, const void *data, size_t len)
{
    struct incoming *in = owner;
    int64_t now = clock_mono_us();

    if (now - in->told_us > PROGRESS_US) {
        in->told_us = now;
        job_progress(in->job, wire_bytes(in->wire), 0);
    }
    return receive_feed(in->receiver, data, len);
}

/* What comes as a root counts for the container, as all that is written in it does. */
static struct err *charge(const struct incoming *in)
{
    autofree char *rootfs = layout_rootfs(in->job->target.pool, in->job->target.slot);

    return subvolume_exists(rootfs) ? quota_account_pass_on(rootfs, in->set) : quota_account_open(in->set);
}

static struct err *receive_into(struct incoming *in, int dir, const char *name, int parent, struct receive_info *info)
{
    const struct receive_limits limits = {.bytes = in->args->bytes_max - wire_bytes(in->wire),
                                          .reserve = in->args->reserve};
    struct err *e = receive_begin(dir, name, parent, &limits, &in->receiver);

    if (!e && info == &in->info && !in->name)
        e = charge(in);
    if (!e)
        e = wire_receive(in->wire, take, in);
    if (!e)
        e = receive_end(in->receiver, info);
    receive_free(steal(&in->receiver));
    return e;
}

static struct err *receive_root(struct incoming *in, const struct stream_head *h)
{
    autofd int dir = -1;
    struct err *e = open_set(in, h);

    if (!e)
        e = open_subvolume(in->name ? in->snapshots : in->slot, &dir);
    if (!e)
        e = receive_into(in, dir, strrchr(in->set, '/') + 1, in->parent, &in->info);
    if (!e)
        e = failpoint("peer.received");
    return e ? e : open_subvolume(in->set, &in->root);
}

static struct err *receive_nested(struct incoming *in, const struct stream_head *h)
{
    bool same = in->set && str_eq(h->name, in->name) && str_eq(h->set, in->name ? PEER_SET_SNAPSHOT : PEER_SET_ROOT);
    autofd int parent = !str_eq(h->parent, PEER_NONE) && in->parent >= 0 ? nested_open(in->parent, h->path) : -1;
    autofree char *dir_path = str_dup(h->path);
    char *slash = strrchr(dir_path, '/');
    const char *name = slash ? slash + 1 : h->path;
    struct receive_info info;
    autofd int dir = -1;

    if (!same || h->path[0] == '/' || !*name || str_eq(name, ".") || str_eq(name, "..") || strlen(name) > NAME_MAX)
        return wrong("a nested subvolume without a place");
    if (!str_eq(h->parent, PEER_NONE) && parent < 0)
        return wrong("a difference to what is not there");
    if (slash)
        *slash = '\0';
    dir = nested_open_dir(in->root, slash ? dir_path : "");
    if (dir < 0)
        return wrong("a nested subvolume without a place");
    if (h->readonly)
        json_array_append_new(in->readonly, json_string(h->path));
    return receive_into(in, dir, name, parent, &info);
}

static struct err *receive_stream(struct incoming *in, const json_t *j)
{
    struct stream_head h = {0};
    struct err *e = err_recode(json_table_load(&head_table, j, &h, NULL), ERR_HOST);

    if (!e && ++in->streams > STREAMS_MAX)
        e = wrong("too much");
    if (!e)
        e = *h.path ? receive_nested(in, &h) : receive_root(in, &h);
    json_table_clear(&head_table, &h);
    return e;
}

static struct err *receive_all(struct incoming *in)
{
    for (;;) {
        autojson frame = NULL;
        struct err *e = wire_receive_frame(in->wire, &frame);
        const json_t *stream = json_object_get(frame, "stream"), *end = json_object_get(frame, "end");

        if (!e && stream)
            e = receive_stream(in, stream);
        else if (!e && (!end || json_integer_value(json_object_get(end, "streams")) != in->streams))
            e = wrong("an end that does not fit");
        if (e)
            return e;
        if (!stream)
            break;
    }
    if (!in->set || in->name)
        return wrong("no root file system");
    return close_set(in);
}

/* What this node has, so that less must be sent. */
static json_t *request(const struct incoming *in)
{
    const char *pool = in->job->target.pool;
    autofree char *base = layout_base(pool, in->job->target.slot);
    autofree char *image =
        in->args->image && image_fingerprint_ok(in->args->image) ? layout_image(pool, in->args->image) : NULL;
    char uuid[SEND_NAME_SIZE];

    return json_pack("{s:s, s:s?, s:s?, s:s?, s:O}", "copy", in->args->copy, "base",
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
        e = wire_new(fd, &in->wire);
    if (!e)
        e = receive_all(in);
    if (!e)
        e = failpoint("peer.fetched");
    return e;
}

static struct err *move_in(const struct incoming *in)
{
    autofree char *fresh = layout_temporary(in->slot, "base");
    autofree char *base = layout_base(in->job->target.pool, in->job->target.slot);
    json_t *name;
    size_t i;

    json_array_foreach(in->got, i, name)
    {
        autofree char *from = layout_temporary(in->snapshots, json_string_value(name));
        autofree char *to = layout_snapshot(in->job->target.pool, in->job->target.slot, json_string_value(name));

        if (rename(from, to) < 0)
            return err_errno(errno, "cannot rename a received snapshot");
    }
    return rename(fresh, base) < 0 ? err_errno(errno, "cannot rename the received subvolume") : NULL;
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
    *in = (struct incoming){.job = job, .args = args, .root = -1, .parent = -1};
    in->slot = layout_slot(job->target.pool, job->target.slot);
    in->snapshots = layout_snapshots(job->target.pool, job->target.slot);
    in->readonly = json_array();
    in->got = json_array();
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
