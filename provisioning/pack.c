/* SPDX-License-Identifier: Apache-2.0 */
#include "provisioning/pack.h"

#include <archive.h>
#include <archive_entry.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "base/pace.h"
#include "base/str.h"
#include "provisioning/pack_attributes.h"
#include "provisioning/pack_check.h"
#include "provisioning/pack_holes.h"
#include "provisioning/tree_digest.h"

#define BLOCK 262144
#define DEPTH_MAX 256
#define HOLE_STEP (INT64_C(256) << 20)
#define PROGRESS_BYTES (INT64_C(8) << 20)

struct pack {
    struct pack_config config;
    struct archive *a;
    struct archive_entry_linkresolver *links;
    struct tree_digest *digest; /* of the tree that is being packed */
    char *block;
    void *hole; /* HOLE_STEP bytes of zeros that take no memory; NULL: no file with a hole has come */
    int64_t bytes, told;
    struct pace pace;
    struct err *error; /* of the other end */
};

static struct err *failed(struct pack *p, const char *what)
{
    const char *text = archive_error_string(p->a);

    if (p->error)
        return steal(&p->error);
    return err_new(ERR_HOST, "%s: %s", what, text ? text : "cannot write the archive");
}

static la_ssize_t give(struct archive *a, void *owner, const void *data, size_t len)
{
    struct pack *p = owner;

    p->error = err_first(p->error, pace_write(&p->pace, data, len));
    if (!p->error)
        return (la_ssize_t)len;
    archive_set_error(a, EIO, "%s", p->error->message);
    return -1;
}

struct err *pack_new(const struct pack_config *config, struct pack **ret)
{
    auto_(pack_free) struct pack *p = mem_new(struct pack);

    p->config = *config;
    p->pace = (struct pace){.fd = config->fd, .other = "who takes the archive", .limit_s = config->pace_s};
    p->a = archive_write_new();
    p->links = archive_entry_linkresolver_new();
    p->block = mem_alloc(1, BLOCK);
    if (!p->a || !p->links)
        abort();
    archive_entry_linkresolver_set_strategy(p->links, ARCHIVE_FORMAT_TAR);
    if (archive_write_set_format_pax_restricted(p->a) != ARCHIVE_OK ||
        (config->compressed && archive_write_add_filter_zstd(p->a) != ARCHIVE_OK) ||
        archive_write_set_bytes_in_last_block(p->a, 1) != ARCHIVE_OK ||
        archive_write_open(p->a, p, NULL, give, NULL) != ARCHIVE_OK)
        return failed(p, "archive");
    *ret = steal(&p);
    return NULL;
}

void pack_free(struct pack *p)
{
    if (!p)
        return;
    if (p->a) {
        (void)archive_write_fail(p->a); /* what is not finished is no archive */
        archive_write_free(p->a);
    }
    if (p->links)
        archive_entry_linkresolver_free(p->links);
    if (p->hole)
        (void)munmap(p->hole, HOLE_STEP);
    tree_digest_free(p->digest);
    err_free(p->error);
    free(p->block);
    free(p);
}

static struct err *write_header(struct pack *p, const char *path, struct archive_entry *entry)
{
    struct err *e = pack_check_path(path, archive_entry_symlink(entry));

    if (e)
        return e;
    if (p->digest)
        tree_digest_entry(p->digest, path, entry);
    /* A warning is about a name that is no UTF-8: it is written as it is. */
    return archive_write_header(p->a, entry) < ARCHIVE_WARN ? failed(p, path) : NULL;
}

static struct err *write_data(struct pack *p, const char *path, const void *data, size_t len)
{
    if (p->digest)
        tree_digest_data(p->digest, data, len);
    p->bytes += (int64_t)len;
    if (p->config.progress && p->bytes - p->told >= PROGRESS_BYTES) {
        p->told = p->bytes;
        p->config.progress(p->config.owner, p->bytes);
    }
    return archive_write_data(p->a, data, len) != (la_ssize_t)len ? failed(p, path) : NULL;
}

struct err *pack_text(struct pack *p, const char *name, const char *text)
{
    struct archive_entry *entry = archive_entry_new();
    struct err *e;

    archive_entry_set_pathname(entry, name);
    archive_entry_set_filetype(entry, AE_IFREG);
    archive_entry_set_perm(entry, 0644);
    archive_entry_set_size(entry, (la_int64_t)strlen(text));
    e = write_header(p, name, entry);
    if (!e)
        e = write_data(p, name, text, strlen(text));
    archive_entry_free(entry);
    return e;
}

/* `len` bytes from the file's position on. */
static struct err *copy_data(struct pack *p, const char *path, int fd, int64_t len)
{
    struct err *e = NULL;

    while (!e && len > 0) {
        ssize_t n = read(fd, p->block, (size_t)MIN(len, BLOCK));

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return err_errno(n < 0 ? errno : EIO, "'%s'", path);
        e = write_data(p, path, p->block, (size_t)n);
        len -= n;
    }
    return e;
}

/* libarchive must be given the zeros of a hole, although it leaves them out of the archive. */
static struct err *pass_hole(struct pack *p, const char *path, int64_t at, int64_t len)
{
    if (p->digest)
        tree_digest_hole(p->digest, at, len);
    if (!p->hole) {
        void *zeros = mmap(NULL, HOLE_STEP, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

        if (zeros == MAP_FAILED)
            return err_errno(errno, "'%s'", path);
        p->hole = zeros;
    }
    while (len > 0) {
        la_ssize_t n = archive_write_data(p->a, p->hole, (size_t)MIN(len, HOLE_STEP));

        if (n <= 0)
            return failed(p, path);
        len -= n;
    }
    return NULL;
}

static struct err *write_regions(struct pack *p, const char *path, int fd, const struct pack_region *r, size_t count,
                                 int64_t size)
{
    int64_t at = 0;
    struct err *e = NULL;

    for (size_t i = 0; !e && i < count; i++) {
        if (r[i].at > at)
            e = pass_hole(p, path, at, r[i].at - at);
        if (!e && lseek(fd, r[i].at, SEEK_SET) < 0)
            e = err_errno(errno, "'%s'", path);
        if (!e)
            e = copy_data(p, path, fd, r[i].len);
        at = r[i].at + r[i].len;
    }
    /* The hole at the end is in the header alone. */
    if (!e && at < size && p->digest)
        tree_digest_hole(p->digest, at, size - at);
    return e;
}

static struct err *write_file(struct pack *p, const char *path, struct archive_entry *entry, int fd)
{
    int64_t size = archive_entry_size(entry);
    autofree struct pack_region *regions = NULL;
    size_t count = 0;
    struct err *e = err_wrap(pack_regions(fd, path, size, &regions, &count), "'%s'", path);

    for (size_t i = 0; !e && i < count; i++)
        archive_entry_sparse_add_entry(entry, regions[i].at, regions[i].len);
    if (!e)
        e = write_header(p, path, entry);
    if (e || count)
        return e ? e : write_regions(p, path, fd, regions, count, size);
    return lseek(fd, 0, SEEK_SET) < 0 ? err_errno(errno, "'%s'", path) : copy_data(p, path, fd, size);
}

static struct err *add_file(struct pack *p, int dir, const char *name, const char *path, struct archive_entry *entry)
{
    autofd int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    struct archive_entry *spare = NULL;
    struct err *e;

    if (fd < 0)
        return err_errno(errno, "'%s'", path);
    e = pack_attributes(fd, path, entry);
    if (e)
        return e;
    /* The second name of a file becomes a link to the first; nothing is ever deferred for tar. */
    archive_entry_linkify(p->links, &entry, &spare);
    if (archive_entry_hardlink(entry))
        return write_header(p, path, entry);
    return write_file(p, path, entry, fd);
}

static struct err *add_link(struct pack *p, int dir, const char *name, const char *path, struct archive_entry *entry)
{
    ssize_t n = readlinkat(dir, name, p->block, BLOCK - 1);

    if (n < 0)
        return err_errno(errno, "'%s'", path);
    p->block[n] = '\0';
    archive_entry_set_symlink(entry, p->block);
    return write_header(p, path, entry);
}

static int by_name(const void *x, const void *y)
{
    return strcmp(*(char *const *)x, *(char *const *)y);
}

static struct err *names_of(int dir, char ***ret, size_t *ret_count)
{
    int copy = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = copy >= 0 ? fdopendir(copy) : NULL;
    size_t count = 0, size = 0;
    char **names = NULL;
    const struct dirent *entry;

    if (!d) {
        fd_closep(&copy);
        return err_errno(errno, "cannot list a directory");
    }
    while ((entry = readdir(d))) {
        if (str_eq(entry->d_name, ".") || str_eq(entry->d_name, ".."))
            continue;
        if (count == size) {
            size = size ? size * 2 : 64;
            names = mem_grow(names, size, sizeof(*names));
        }
        names[count++] = str_dup(entry->d_name);
    }
    closedir(d);
    if (count)
        qsort(names, count, sizeof(*names), by_name);
    *ret = names;
    *ret_count = count;
    return NULL;
}

/* What overlayfs notes a deleted file by. */
static bool is_whiteout(const struct stat *st)
{
    return S_ISCHR(st->st_mode) && st->st_rdev == 0;
}

static struct err *add_tree(struct pack *p, int dir, const char *path, const struct stat *st, int depth);

static struct err *add_child(struct pack *p, int parent, const char *name, const char *path, int depth)
{
    struct archive_entry *entry;
    struct stat st;
    struct err *e = NULL;

    if (fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return err_errno(errno, "'%s'", path);
    if (S_ISDIR(st.st_mode)) {
        autofd int dir = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

        return dir < 0 ? err_errno(errno, "'%s'", path) : add_tree(p, dir, path, &st, depth + 1);
    }
    if (!S_ISREG(st.st_mode) && !S_ISLNK(st.st_mode) && !S_ISFIFO(st.st_mode) && !is_whiteout(&st))
        return NULL;
    st.st_mtim.tv_nsec = 0;
    entry = archive_entry_new();
    archive_entry_copy_stat(entry, &st);
    archive_entry_unset_atime(entry);
    archive_entry_unset_ctime(entry);
    archive_entry_unset_birthtime(entry);
    archive_entry_set_pathname(entry, path);
    if (S_ISREG(st.st_mode))
        e = add_file(p, parent, name, path, entry);
    else
        e = S_ISLNK(st.st_mode) ? add_link(p, parent, name, path, entry) : write_header(p, path, entry);
    archive_entry_free(entry);
    return e;
}

static struct err *add_dir(struct pack *p, int dir, const char *path, const struct stat *st)
{
    struct archive_entry *entry = archive_entry_new();
    struct err *e;

    archive_entry_set_pathname(entry, *path ? path : ".");
    archive_entry_set_filetype(entry, AE_IFDIR);
    archive_entry_set_perm(entry, st->st_mode & 07777);
    archive_entry_set_uid(entry, st->st_uid);
    archive_entry_set_gid(entry, st->st_gid);
    archive_entry_set_mtime(entry, st->st_mtim.tv_sec, 0);
    e = pack_attributes(dir, path, entry);
    if (!e)
        e = write_header(p, path, entry);
    archive_entry_free(entry);
    return e;
}

static struct err *add_tree(struct pack *p, int dir, const char *path, const struct stat *st, int depth)
{
    char **names = NULL;
    size_t count = 0;
    struct err *e;

    if (depth > DEPTH_MAX)
        return err_new(ERR_HOST, "'%.200s' is too deep", path);
    e = add_dir(p, dir, path, st);
    if (!e)
        e = names_of(dir, &names, &count);
    for (size_t i = 0; i < count; i++) {
        autofree char *child = e ? NULL : str_fmt("%s%s%s", path, *path ? "/" : "", names[i]);

        if (!e)
            e = add_child(p, dir, names[i], child, depth);
        free(names[i]);
    }
    free(names);
    return e;
}

struct err *pack_tree(struct pack *p, int dir, const char *prefix, char *ret_digest)
{
    struct stat st;
    struct err *e;

    if (fstat(dir, &st) < 0)
        return err_errno(errno, "the tree");
    tree_digest_free(p->digest);
    p->digest = tree_digest_new();
    e = add_tree(p, dir, prefix ? prefix : "", &st, 0);
    if (!e && ret_digest)
        tree_digest_get(p->digest, ret_digest);
    tree_digest_free(steal(&p->digest));
    return e;
}

struct err *pack_finish(struct pack *p, int64_t *ret_bytes)
{
    if (archive_write_close(p->a) != ARCHIVE_OK)
        return failed(p, "the end of the archive");
    *ret_bytes = p->bytes;
    return NULL;
}
