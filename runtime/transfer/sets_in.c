/* SPDX-License-Identifier: Apache-2.0 */
/* The receiving side: everything is used when the whole has arrived with the right checksums, and not before. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/failpoint.h"
#include "base/fd.h"
#include "base/str.h"
#include "runtime/transfer/sets.h"
#include "storage/layout.h"
#include "storage/nested.h"
#include "storage/quota.h"
#include "storage/receive.h"
#include "storage/subvolume.h"

enum { PROGRESS_US = 500000, STREAMS_MAX = 65536 };

struct sets_in {
    const struct job *job;
    const struct sets_rules *rules;
    struct wire *wire;
    char *slot, *snapshots;   /* directories */
    char *set;                /* path of the set that comes, or NULL */
    char *name;               /* of its snapshot, or NULL: the root file system */
    struct receive_info info; /* of the set's own subvolume */
    int root, parent;         /* the set; what it is the difference to, or -1 */
    char **readonly;          /* paths in it that become so in the end */
    size_t readonly_count;
    json_t *got;              /* names of snapshots */
    bool got_root;
    int64_t streams, told_us;
    struct receiver *receiver;
};

struct stream_head {
    char *set, *name, *path, *path_hex, *parent;
    bool readonly;
};
static const struct json_field head_fields[] = {
    F_STRING(struct stream_head, set, .required = true),    F_STRING(struct stream_head, name, .nullable = true),
    F_STRING(struct stream_head, path),                     F_STRING(struct stream_head, path_hex, .max = 2 * PATH_MAX),
    F_STRING(struct stream_head, parent, .required = true), F_BOOL(struct stream_head, readonly, .required = true),
};
static JSON_TABLE(head_table, "stream", head_fields);

static struct err *wrong(const struct sets_in *in, const char *what)
{
    return err_new(in->rules->wrong, "%s has %s", in->rules->other, what);
}

/* The set is whole: its parts and it itself become read-only, and it gets the sender's name. */
static struct err *close_set(struct sets_in *in)
{
    struct err *e = NULL;

    if (!in->set)
        return NULL;
    for (size_t i = 0; !e && i < in->readonly_count; i++) {
        autofd int fd = nested_open(in->root, in->readonly[i]);
        autofree char *self = str_fmt("/proc/self/fd/%d", fd);

        e = fd < 0 ? wrong(in, "a subvolume that hides another") : subvolume_set_readonly(self, true);
    }
    if (!e)
        e = in->rules->named ? receive_mark(in->set, &in->info) : subvolume_set_readonly(in->set, true);
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

static struct err *choose_parent(struct sets_in *in, const char *word)
{
    const char *pool = in->job->target.pool;
    autofree char *path = NULL;

    fd_closep(&in->parent);
    in->parent = -1;
    if (str_eq(word, PARENT_NONE))
        return NULL;
    if (str_eq(word, PARENT_PREVIOUS) && in->set)
        path = str_dup(in->set);
    else if (str_eq(word, PARENT_BASE) && in->rules->base)
        path = layout_base(pool, in->job->target.slot);
    else if (str_eq(word, PARENT_IMAGE) && in->rules->image)
        path = layout_image(pool, in->rules->image);
    else
        return wrong(in, "a difference to what is not there");
    return open_subvolume(path, &in->parent);
}

static struct err *check_set(const struct sets_in *in, const struct stream_head *h)
{
    if (in->got_root)
        return wrong(in, "more behind the root file system");
    if (str_eq(h->set, SET_ROOT))
        return h->name ? wrong(in, "a root file system with a name") : NULL;
    if (!str_eq(h->set, SET_SNAPSHOT) || !h->name || !layout_name_ok(h->name))
        return wrong(in, "a set that is none");
    if (!json_has_string(in->rules->snapshots, h->name) || json_has_string(in->got, h->name))
        return wrong(in, "a snapshot that was not asked for");
    return NULL;
}

static void forget_readonly(struct sets_in *in)
{
    for (size_t i = 0; i < in->readonly_count; i++)
        free(in->readonly[i]);
    free(steal(&in->readonly));
    in->readonly_count = 0;
}

static struct err *open_set(struct sets_in *in, const struct stream_head *h)
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
    forget_readonly(in);
    return NULL;
}

static struct err *take(void *owner, const void *data, size_t len)
{
    struct sets_in *in = owner;
    int64_t now = clock_mono_us();

    if (now - in->told_us > PROGRESS_US) {
        in->told_us = now;
        job_progress(in->job, wire_bytes(in->wire), 0);
    }
    return receive_feed(in->receiver, data, len);
}

/* What comes as a root counts for the container, as all that is written in it does. */
static struct err *charge(const struct sets_in *in)
{
    autofree char *rootfs = layout_rootfs(in->job->target.pool, in->job->target.slot);

    return subvolume_exists(rootfs) ? quota_account_pass_on(rootfs, in->set) : quota_account_open(in->set);
}

static struct err *receive_into(struct sets_in *in, int dir, const char *name, int parent, struct receive_info *info)
{
    const struct receive_limits limits = {.bytes = in->rules->bytes_max - wire_bytes(in->wire),
                                          .reserve = in->rules->reserve};
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

static struct err *receive_root(struct sets_in *in, const struct stream_head *h)
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

/* The directory around it came with its times. */
static struct err *receive_within(struct sets_in *in, int dir, const char *name, int parent)
{
    struct receive_info info;
    struct stat st;
    struct err *e = fstat(dir, &st) < 0 ? err_errno(errno, "fstat") : receive_into(in, dir, name, parent, &info);

    if (!e && futimens(dir, (struct timespec[2]){st.st_atim, st.st_mtim}) < 0)
        e = err_errno(errno, "cannot set the times of a directory");
    return e;
}

static struct err *receive_nested(struct sets_in *in, const struct stream_head *h)
{
    bool same = in->set && str_eq(h->name, in->name) && str_eq(h->set, in->name ? SET_SNAPSHOT : SET_ROOT);
    autofd int parent = !str_eq(h->parent, PARENT_NONE) && in->parent >= 0 ? nested_open(in->parent, h->path) : -1;
    autofree char *dir_path = str_dup(h->path);
    char *slash = strrchr(dir_path, '/');
    const char *name = slash ? slash + 1 : h->path;
    autofd int dir = -1;

    if (!same || h->path[0] == '/' || !*name || str_eq(name, ".") || str_eq(name, "..") || strlen(name) > NAME_MAX)
        return wrong(in, "a nested subvolume without a place");
    if (!str_eq(h->parent, PARENT_NONE) && parent < 0)
        return wrong(in, "a difference to what is not there");
    if (slash)
        *slash = '\0';
    dir = nested_open_dir(in->root, slash ? dir_path : "");
    if (dir < 0)
        return wrong(in, "a nested subvolume without a place");
    if (h->readonly) {
        in->readonly = mem_grow(in->readonly, in->readonly_count + 1, sizeof(*in->readonly));
        in->readonly[in->readonly_count++] = str_dup(h->path);
    }
    return receive_within(in, dir, name, parent);
}

/* One of both is there. */
static struct err *decide_path(const struct sets_in *in, struct stream_head *h)
{
    if (!h->path == !h->path_hex)
        return wrong(in, "a subvolume without a place");
    if (!h->path)
        h->path = str_of_hex(h->path_hex);
    return h->path ? NULL : wrong(in, "a subvolume without a place");
}

static struct err *receive_stream(struct sets_in *in, const json_t *j)
{
    struct stream_head h = {0};
    struct err *e = err_recode(json_table_load(&head_table, j, &h, NULL), in->rules->wrong);

    if (!e)
        e = decide_path(in, &h);
    if (!e && ++in->streams > STREAMS_MAX)
        e = wrong(in, "too much");
    if (!e)
        e = *h.path ? receive_nested(in, &h) : receive_root(in, &h);
    json_table_clear(&head_table, &h);
    return e;
}

/* digest: of all that came before it. */
static struct err *check_end(const struct sets_in *in, const json_t *end, const char *digest)
{
    if (!json_is_object(end) || json_integer_value(json_object_get(end, "streams")) != in->streams)
        return wrong(in, "an end that does not fit");
    if (in->rules->digest && !str_eq(json_string_value(json_object_get(end, "digest")), digest))
        return wrong(in, "a digest that is not its own");
    return NULL;
}

static struct err *receive_all(struct sets_in *in)
{
    for (;;) {
        char digest[WIRE_DIGEST_SIZE];
        autojson frame = NULL;
        struct err *e = wire_digest(in->wire, digest);
        const json_t *stream;

        if (!e)
            e = wire_receive_frame(in->wire, &frame);
        stream = json_object_get(frame, "stream");
        if (!e)
            e = stream ? receive_stream(in, stream) : check_end(in, json_object_get(frame, "end"), digest);
        if (e)
            return e;
        if (!stream)
            break;
    }
    if (!in->set || in->name)
        return wrong(in, "no root file system");
    return close_set(in);
}

static void sets_in_clear(struct sets_in *in)
{
    receive_free(in->receiver);
    fd_closep(&in->root);
    fd_closep(&in->parent);
    free(in->slot);
    free(in->snapshots);
    free(in->set);
    free(in->name);
    forget_readonly(in);
    json_decref(in->got);
}

struct err *sets_receive(const struct job *job, struct wire *wire, const struct sets_rules *rules, json_t **ret_names)
{
    __attribute__((cleanup(sets_in_clear))) struct sets_in in = {
        .job = job, .rules = rules, .wire = wire, .root = -1, .parent = -1};
    struct err *e;

    in.slot = layout_slot(job->target.pool, job->target.slot);
    in.snapshots = layout_snapshots(job->target.pool, job->target.slot);
    in.got = json_array();
    e = receive_all(&in);
    if (!e)
        *ret_names = steal(&in.got);
    return e;
}

struct err *sets_place_snapshots(const struct job *job, const json_t *names)
{
    autofree char *dir = layout_snapshots(job->target.pool, job->target.slot);
    json_t *name;
    size_t i;

    json_array_foreach((json_t *)(uintptr_t)names, i, name)
    {
        autofree char *from = layout_temporary(dir, json_string_value(name));
        autofree char *to = layout_snapshot(job->target.pool, job->target.slot, json_string_value(name));

        if (rename(from, to) < 0)
            return err_errno(errno, "cannot rename a received snapshot");
    }
    return NULL;
}
