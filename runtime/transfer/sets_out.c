/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>

#include "base/clock.h"
#include "base/failpoint.h"
#include "base/fd.h"
#include "base/str.h"
#include "runtime/names.h"
#include "runtime/transfer/sets.h"
#include "storage/layout.h"
#include "storage/nested.h"
#include "storage/send.h"
#include "storage/subvolume.h"

enum { PROGRESS_US = 500000 };

struct sets_out {
    const struct job *job;
    struct wire *wire;
    char *work;
    int parent, root; /* the set that the next one is the difference to, or -1; the set being sent */
    const char *parent_word;
    struct place {
        char *path;
        bool readonly;
    } *nested; /* of that set */
    size_t nested_count;
    int64_t streams, told_us;
};

struct sets_out *sets_out_new(const struct job *job, struct wire *wire, const char *work)
{
    struct sets_out *o = mem_new(struct sets_out);

    *o = (struct sets_out){.job = job, .wire = wire, .parent = -1, .root = -1, .parent_word = PARENT_NONE};
    o->work = str_dup(work);
    return o;
}

static void forget_nested(struct sets_out *o)
{
    for (size_t i = 0; i < o->nested_count; i++)
        free(o->nested[i].path);
    free(steal(&o->nested));
    o->nested_count = 0;
}

void sets_out_free(struct sets_out *o)
{
    if (!o)
        return;
    fd_closep(&o->parent);
    fd_closep(&o->root);
    forget_nested(o);
    free(o->work);
    free(o);
}

static struct err *open_dir(const char *path, int *ret)
{
    *ret = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return *ret < 0 ? err_errno(errno, "'%s'", path) : NULL;
}

struct err *sets_out_parent(struct sets_out *o, const char *path, const char *word)
{
    o->parent_word = word;
    return open_dir(path, &o->parent);
}

/* Each piece; noded is told now and then how many there were. */
static struct err *give(void *owner, const void *data, size_t len)
{
    struct sets_out *o = owner;
    int64_t now = clock_mono_us();

    if (now - o->told_us > PROGRESS_US) {
        o->told_us = now;
        job_progress(o->job, wire_bytes(o->wire), 0);
    }
    return wire_send(o->wire, data, len);
}

/* JSON holds UTF-8 alone, a name in Linux is of any bytes. */
static void set_path(json_t *stream, const char *path)
{
    size_t len = strlen(path);
    autofree char *hex = NULL;

    if (json_object_set_new(stream, "path", json_string(path)) == 0)
        return;
    hex = mem_alloc(len + 1, 2);
    str_hex(path, len, hex);
    json_object_set_new(stream, "path_hex", json_string(hex));
}

static struct err *send_one(struct sets_out *o, const char *set, const char *name, const char *path, bool readonly)
{
    autofd int fd = nested_open(o->root, path), parent = o->parent < 0 ? -1 : nested_open(o->parent, path);
    autojson head = json_pack("{s:{s:s, s:s?, s:b, s:s}}", "stream", "set", set, "name", name, "readonly", readonly,
                              "parent", parent < 0 ? PARENT_NONE : o->parent_word);
    struct err *e;

    if (fd < 0)
        return err_new(ERR_HOST, "the subvolume '%s' is gone", path);
    o->streams++;
    set_path(json_object_get(head, "stream"), path);
    e = wire_send_frame(o->wire, head);
    if (!e)
        e = send_stream_at(fd, parent, give, o);
    if (!e)
        e = failpoint("peer.sent");
    return e ? e : wire_send_end(o->wire);
}

static struct err *note_nested(void *owner, const char *path, bool readonly)
{
    struct sets_out *o = owner;

    o->nested = mem_grow(o->nested, o->nested_count + 1, sizeof(*o->nested));
    o->nested[o->nested_count++] = (struct place){.path = str_dup(path), .readonly = readonly};
    return NULL;
}

/* root is a snapshot of our own when something is nested in it, since only read-only ones can be sent. */
static struct err *send_set(struct sets_out *o, const char *root, const char *set, const char *name)
{
    struct err *e = open_dir(root, &o->root);

    forget_nested(o);
    if (!e)
        e = nested_each(root, note_nested, o);
    if (!e && o->nested_count)
        e = nested_set_readonly(root, true);
    if (!e)
        e = send_one(o, set, name, "", true);
    for (size_t i = 0; !e && i < o->nested_count; i++)
        e = send_one(o, set, name, o->nested[i].path, o->nested[i].readonly);
    fd_closep(&o->parent);
    o->parent = fd_steal(&o->root);
    o->parent_word = PARENT_PREVIOUS;
    return e;
}

struct err *sets_out_snapshot(struct sets_out *o, const char *name, bool *ret_there)
{
    autofree char *path = NULL, *work = NULL;
    bool nested = false;
    struct err *e;

    if (!layout_name_ok(name))
        return err_field("snapshots", "has a name that is none");
    path = layout_snapshot(o->job->target.pool, o->job->target.slot, name);
    work = str_fmt("%s.%s", o->work, name);
    *ret_there = subvolume_exists(path);
    if (!*ret_there)
        return NULL;
    e = nested_exist(path, &nested);
    if (!e && nested)
        e = subvolume_snapshot(path, work, true);
    return e ? e : send_set(o, nested ? work : path, SET_SNAPSHOT, name);
}

struct err *sets_out_root(struct sets_out *o, const char *root)
{
    return send_set(o, root, SET_ROOT, NULL);
}

struct err *sets_out_end(struct sets_out *o)
{
    char digest[WIRE_DIGEST_SIZE];
    autojson end = NULL;
    struct err *e = wire_digest(o->wire, digest);

    end = json_pack("{s:{s:I, s:s}}", "end", "streams", (json_int_t)o->streams, "digest", digest);
    return e ? e : wire_send_frame(o->wire, end);
}

struct err *sets_out_tidy(const char *pool, const char *work)
{
    const char *prefix = strrchr(work, '/') + 1;
    autofree char *dir = strndup(work, (size_t)(prefix - 1 - work));
    auto_(names_free) struct names *names = NULL;
    struct err *e = names_list(dir, &names);

    for (size_t i = 0; !e && i < names->count; i++) {
        autofree char *path = str_fmt("%s/%s", dir, names->name[i]);

        if (strncmp(names->name[i], prefix, strlen(prefix)) == 0)
            err_ignore(subvolume_delete(pool, path)); /* one that is being sent this moment goes the next time */
    }
    return e;
}
