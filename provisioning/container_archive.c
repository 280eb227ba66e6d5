/* SPDX-License-Identifier: Apache-2.0 */
#include "provisioning/container_archive.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <poll.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "base/json_table.h"
#include "base/pace.h"
#include "base/str.h"
#include "provisioning/pack.h"
#include "provisioning/pack_check.h"
#include "provisioning/tree_digest.h"
#include "provisioning/unpack.h"
#include "storage/layout.h"
#include "storage/subvolume.h"

#define TEXT_MAX (1 << 20)
#define ENTRIES_MAX 50000000
#define BLOCK 262144

static void digest_of(const char *text, size_t len, char ret[TREE_DIGEST_SIZE])
{
    auto_(tree_digest_free) struct tree_digest *d = tree_digest_new();

    tree_digest_data(d, text, len);
    tree_digest_get(d, ret);
}

static struct err *write_all(struct pack *p, const json_t *header, const struct container_tree *trees, size_t count)
{
    autofree char *head = json_dumps(header, JSON_INDENT(1)), *tail = NULL;
    char digest[TREE_DIGEST_SIZE];
    autojson digests = NULL;
    struct err *e;

    if (!head)
        return err_new(ERR_INTERNAL, "the container's description cannot be written as JSON");
    digest_of(head, strlen(head), digest);
    digests = json_pack("{s:s, s:{}}", "header", digest, "trees");
    e = pack_text(p, CONTAINER_ARCHIVE_HEADER, head);
    for (size_t i = 0; !e && i < count; i++) {
        e = pack_tree(p, trees[i].dir, trees[i].name, digest);
        if (!e)
            json_object_set_new(json_object_get(digests, "trees"), trees[i].name, json_string(digest));
    }
    if (e)
        return e;
    tail = json_dumps(digests, JSON_INDENT(1));
    return pack_text(p, CONTAINER_ARCHIVE_DIGESTS, tail);
}

struct err *container_archive_write(const struct container_archive *c, const json_t *header,
                                    const struct container_tree *trees, size_t count, int64_t *ret_bytes)
{
    const struct pack_config config = {.fd = c->fd, .compressed = true, .owner = c->owner, .progress = c->progress};
    auto_(pack_free) struct pack *p = NULL;
    struct err *e = NULL;

    /* Before the first byte: who takes it has an error then, and not half an archive. */
    for (size_t i = 0; !e && i < count; i++)
        e = pack_check(trees[i].dir, trees[i].name);
    if (!e)
        e = pack_new(&config, &p);
    if (!e)
        e = write_all(p, header, trees, count);
    return e ? e : pack_finish(p, ret_bytes);
}

struct reading {
    const struct container_archive *c;
    json_t *header, *trees, *digests; /* trees: name -> digest, of those that are over */
    char header_digest[TREE_DIGEST_SIZE];
    char *tree; /* the one that is being read */
    struct tree_digest *digest;
};

static struct err *read_text(const struct unpack_entry *x, char **ret, size_t *ret_len)
{
    la_int64_t size = archive_entry_size(x->entry);
    autofree char *text = NULL;

    if (archive_entry_filetype(x->entry) != AE_IFREG || archive_entry_hardlink(x->entry))
        return err_new(ERR_INVALID, "it is no regular file");
    if (size < 0 || size > TEXT_MAX)
        return err_new(ERR_TOO_LARGE, "it has more than %d bytes", TEXT_MAX);
    text = mem_alloc(1, (size_t)size + 1);
    if (archive_read_data(x->archive, text, (size_t)size) != size)
        return err_new(ERR_INVALID, "it cannot be read");
    *ret = steal(&text);
    *ret_len = (size_t)size;
    return NULL;
}

static struct err *read_object(const struct unpack_entry *x, char digest[TREE_DIGEST_SIZE], json_t **ret)
{
    autofree char *text = NULL;
    autojson j = NULL;
    size_t len = 0;
    struct err *e = read_text(x, &text, &len);

    if (!e)
        e = json_parse(text, len, x->path, &j);
    if (!e && !json_is_object(j))
        e = err_new(ERR_INVALID, "it is no JSON object");
    if (e)
        return e;
    if (digest)
        digest_of(text, len, digest);
    *ret = steal(&j);
    return NULL;
}

struct err *container_archive_check_header(const json_t *header)
{
    const json_t *snapshots = json_object_get(header, "snapshots");
    json_t *snapshot;
    size_t i;

    if (json_integer_value(json_object_get(header, "format")) != CONTAINER_ARCHIVE_FORMAT)
        return err_new(ERR_INVALID, "this program reads archives of the format %d", CONTAINER_ARCHIVE_FORMAT);
    if (!json_is_object(json_object_get(header, "container")) || !json_is_array(snapshots))
        return err_new(ERR_INVALID, "it must have 'container' and 'snapshots'");
    if (json_array_size(snapshots) > CONTAINER_ARCHIVE_SNAPSHOTS_MAX)
        return err_new(ERR_TOO_LARGE, "it has more than %d snapshots", CONTAINER_ARCHIVE_SNAPSHOTS_MAX);
    json_array_foreach((json_t *)(uintptr_t)snapshots, i, snapshot) if (
        !layout_name_ok(json_string_value(
            json_object_get(snapshot, "name")))) return err_new(ERR_INVALID, "a snapshot has no valid name");
    return NULL;
}

static struct err *end_tree(struct reading *r)
{
    char digest[TREE_DIGEST_SIZE];

    if (!r->tree)
        return NULL;
    tree_digest_get(r->digest, digest);
    tree_digest_free(steal(&r->digest));
    json_object_set_new(r->trees, r->tree, json_string(digest));
    str_set(&r->tree, NULL);
    return NULL;
}

/* Whether noded.json has it. */
static bool is_announced(const json_t *header, const char *tree)
{
    json_t *snapshot;
    size_t i;

    if (str_eq(tree, "rootfs"))
        return true;
    json_array_foreach(json_object_get(header, "snapshots"), i, snapshot)
    {
        autofree char *name = str_fmt("snapshots/%s", json_string_value(json_object_get(snapshot, "name")));

        if (str_eq(name, tree))
            return true;
    }
    return false;
}

/* "rootfs" or "snapshots/NAME" of a path below it; NULL when it is none. The caller frees it. */
static char *tree_of(const char *path)
{
    size_t len = strcspn(path, "/");

    if (strncmp(path, "snapshots/", strlen("snapshots/")) == 0)
        len = strlen("snapshots/") + strcspn(path + strlen("snapshots/"), "/");
    else if (len != strlen("rootfs") || strncmp(path, "rootfs", len) != 0)
        return NULL;
    return strndup(path, len);
}

/* The root of the process is where the trees are made: see container_archive_read. */
static struct err *begin_tree(struct reading *r, const struct unpack_entry *x, const char *tree)
{
    autofree char *path = str_fmt("/%s", tree);

    if (!is_announced(r->header, tree) || json_object_get(r->trees, tree))
        return err_new(ERR_INVALID, "this tree is a duplicate, or not announced in " CONTAINER_ARCHIVE_HEADER);
    if (!str_eq(x->path, tree) || archive_entry_filetype(x->entry) != AE_IFDIR || archive_entry_hardlink(x->entry))
        return err_new(ERR_INVALID, "a tree begins with its directory");
    r->tree = str_dup(tree);
    r->digest = tree_digest_new();
    return subvolume_create(path);
}

static struct err *look_tree(struct reading *r, struct unpack_entry *x)
{
    autofree char *tree = tree_of(x->path);
    struct err *e = NULL;

    if (!tree)
        return err_new(ERR_INVALID, "an archive of a container has nothing like that at its top");
    if (!str_eq(tree, r->tree)) {
        e = end_tree(r);
        if (!e)
            e = begin_tree(r, x, tree);
    } else if (str_eq(x->path, tree)) {
        e = err_new(ERR_INVALID, "a duplicate: the tree has begun");
    }
    x->digest = r->digest;
    return e;
}

static struct err *look(void *owner, struct unpack_entry *x)
{
    struct reading *r = owner;
    struct err *e;

    if (r->digests)
        return err_new(ERR_INVALID, "there is something behind " CONTAINER_ARCHIVE_DIGESTS);
    if (!r->header) {
        if (!str_eq(x->path, CONTAINER_ARCHIVE_HEADER))
            return err_new(ERR_INVALID, "an archive of a container begins with " CONTAINER_ARCHIVE_HEADER);
        x->skip = true;
        e = read_object(x, r->header_digest, &r->header);
        return e ? e : container_archive_check_header(r->header);
    }
    if (str_eq(x->path, CONTAINER_ARCHIVE_DIGESTS)) {
        x->skip = true;
        e = end_tree(r);
        return e ? e : read_object(x, NULL, &r->digests);
    }
    return look_tree(r, x);
}

static struct err *check_digests(const struct reading *r)
{
    const json_t *said = json_object_get(r->digests, "trees");
    const char *name;
    json_t *digest;

    if (!r->digests)
        return err_new(ERR_INVALID, "there is no " CONTAINER_ARCHIVE_DIGESTS ": the archive was cut off");
    if (!str_eq(json_string_value(json_object_get(r->digests, "header")), r->header_digest))
        return err_new(ERR_INVALID, "the digest of " CONTAINER_ARCHIVE_HEADER " is wrong");
    if (!json_object_get(r->trees, "rootfs"))
        return err_new(ERR_INVALID, "there is no rootfs");
    if (json_object_size(r->trees) != json_array_size(json_object_get(r->header, "snapshots")) + 1)
        return err_new(ERR_INVALID, "a snapshot is missing");
    json_object_foreach(r->trees, name, digest) if (!json_equal(digest, json_object_get(said, name))) return err_new(
        ERR_INVALID, "the digest of %s is wrong", name);
    return NULL;
}

/* Where the bytes come from. */
struct source {
    struct pace pace;
    char *block;
    struct err *error;
};

static la_ssize_t take(struct archive *a, void *owner, const void **ret)
{
    struct source *s = owner;
    size_t n = 0;

    if (!s->error)
        s->error = pace_read(&s->pace, s->block, BLOCK, &n);
    *ret = s->block;
    if (!s->error)
        return (la_ssize_t)n;
    archive_set_error(a, EIO, "%s", s->error->message);
    return -1;
}

static struct err *read_all(struct reading *r, int dir, int64_t *ret_bytes)
{
    autofree char *block = mem_alloc(1, BLOCK);
    struct source source = {.pace = {.fd = r->c->fd, .other = "who sends the archive"}, .block = block};
    const struct unpack_rules rules = {
        .max_entries = ENTRIES_MAX, .max_bytes = r->c->bytes, .whole_system = true, .owner = r, .look = look};
    struct archive *a = archive_read_new();
    struct err *e;

    if (!a)
        abort();
    archive_read_support_format_tar(a);
    archive_read_support_filter_zstd(a);
    if (archive_read_open(a, &source, NULL, take, NULL) != ARCHIVE_OK)
        e = err_new(ERR_INVALID, "%s", archive_error_string(a) ? archive_error_string(a) : "no archive");
    else
        e = unpack_archive(a, dir, &rules, ret_bytes);
    archive_read_free(a);
    return err_first(source.error, e);
}

struct err *container_archive_read(const struct container_archive *c, int dir, json_t **ret)
{
    struct reading r = {.c = c, .trees = json_object()};
    int64_t bytes = 0;
    struct err *e = NULL;

    if (mkdirat(dir, "snapshots", 0700) < 0)
        e = err_errno(errno, "snapshots");
    if (!e)
        e = read_all(&r, dir, &bytes);
    if (!e)
        e = check_digests(&r);
    if (!e)
        *ret = json_pack("{s:O, s:I}", "header", r.header, "bytes", (json_int_t)bytes);
    json_decref(r.header);
    json_decref(r.trees);
    json_decref(r.digests);
    tree_digest_free(r.digest);
    free(r.tree);
    return e;
}
