/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tar is cut after entries, and inside large files at fixed places, and each piece is a zstd frame of its own. So
 * files that are the same in two versions of a kit are the same bytes in both payloads (rsync, zsync and deduplicating
 * stores send or keep them once), and to unpack it is still one stream.
 */
#include "provisioning/bundle_pack.h"

#include <archive.h>
#include <archive_entry.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "base/str.h"
#include "provisioning/bundle.h"
#include "provisioning/unpack.h"

#define ENTRIES_MAX 20000
#define DEPTH_MAX 32
#define FRAME_MIN ((size_t)64 * 1024)
#define FRAME_MAX ((size_t)1024 * 1024)
#define BLOCK 65536
#define LEVEL "12"
#define FILE_TIME 1754697600 /* of every entry: a build's time would make each build another one */

struct pack {
    struct archive *tar;
    EVP_MD_CTX *digest;
    char *frame;
    size_t len, size;
    int out, entries;
    int64_t bytes;
};

/* libarchive's write callback. */
static la_ssize_t take(UNUSED struct archive *a, void *owner, const void *data, size_t len)
{
    struct pack *p = owner;

    if (p->len + len > p->size) {
        p->size = 2 * (p->len + len);
        p->frame = mem_grow(p->frame, p->size, 1);
    }
    memcpy(p->frame + p->len, data, len);
    p->len += len;
    return (la_ssize_t)len;
}

static struct err *compress(const struct pack *p, char *out, size_t size, size_t *ret_len)
{
    struct archive *a = archive_write_new();
    struct archive_entry *entry = archive_entry_new();
    bool good;

    if (!a || !entry)
        abort();
    archive_entry_set_pathname(entry, "frame");
    archive_entry_set_filetype(entry, AE_IFREG);
    archive_entry_set_size(entry, (la_int64_t)p->len);
    good = archive_write_set_format_raw(a) == ARCHIVE_OK && archive_write_add_filter_zstd(a) == ARCHIVE_OK &&
           archive_write_set_filter_option(a, "zstd", "compression-level", LEVEL) == ARCHIVE_OK &&
           archive_write_set_bytes_in_last_block(a, 1) == ARCHIVE_OK &&
           archive_write_open_memory(a, out, size, ret_len) == ARCHIVE_OK &&
           archive_write_header(a, entry) == ARCHIVE_OK &&
           archive_write_data(a, p->frame, p->len) == (la_ssize_t)p->len && archive_write_close(a) == ARCHIVE_OK;
    archive_entry_free(entry);
    archive_write_free(a);
    return good ? NULL : err_new(ERR_INTERNAL, "cannot compress");
}

static struct err *end_frame(struct pack *p)
{
    size_t size = p->len + p->len / 64 + 4096, len = 0;
    autofree char *out = mem_alloc(size, 1);
    struct err *e = NULL;

    if (p->len == 0)
        return NULL;
    e = compress(p, out, size, &len);
    if (!e && EVP_DigestUpdate(p->digest, out, len) != 1)
        abort();
    p->bytes += (int64_t)len;
    p->len = 0;
    if (!e && p->bytes > BUNDLE_PAYLOAD_MAX)
        e = err_new(ERR_TOO_LARGE, "the payload would be larger than %lld bytes", BUNDLE_PAYLOAD_MAX);
    return e ? e : fd_write_all(p->out, out, len);
}

static struct err *tar_failed(const struct pack *p)
{
    return err_new(ERR_INVALID, "%s", archive_error_string(p->tar) ? archive_error_string(p->tar) : "cannot be packed");
}

static struct err *add_data(struct pack *p, int fd, int64_t size)
{
    char block[BLOCK];
    int64_t have = 0;
    struct err *e = NULL;

    while (!e) {
        ssize_t n = read(fd, block, sizeof(block));

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_errno(errno, "read");
        if (n == 0)
            break;
        have += n;
        if (have > size || archive_write_data(p->tar, block, (size_t)n) != n)
            return have > size ? err_new(ERR_INVALID, "it changes while it is read") : tar_failed(p);
        if (p->len >= FRAME_MAX)
            e = end_frame(p);
    }
    return e || have == size ? e : err_new(ERR_INVALID, "it changes while it is read");
}

/* fd: of a plain file, else -1. target: of a symlink, else NULL. */
static struct err *add_entry(struct pack *p, const char *path, const struct stat *st, int fd, const char *target)
{
    struct archive_entry *entry = archive_entry_new();
    /* A large file begins a frame: what was before it does not matter to its bytes. */
    struct err *e = fd >= 0 && st->st_size >= (off_t)FRAME_MIN ? end_frame(p) : NULL;
    bool executable = S_ISDIR(st->st_mode) || (st->st_mode & S_IXUSR);

    if (!entry)
        abort();
    archive_entry_set_pathname(entry, path);
    archive_entry_set_filetype(entry, st->st_mode & S_IFMT);
    archive_entry_set_perm(entry, target ? 0777 : executable ? 0755 : 0644);
    archive_entry_set_size(entry, fd >= 0 ? st->st_size : 0);
    archive_entry_set_mtime(entry, FILE_TIME, 0);
    if (target)
        archive_entry_set_symlink(entry, target);
    if (!e && archive_write_header(p->tar, entry) != ARCHIVE_OK)
        e = tar_failed(p);
    archive_entry_free(entry);
    if (!e && fd >= 0)
        e = add_data(p, fd, st->st_size);
    if (!e && archive_write_finish_entry(p->tar) != ARCHIVE_OK)
        e = tar_failed(p);
    return e || p->len < FRAME_MIN ? e : end_frame(p);
}

static struct err *add_dir(struct pack *p, int dir, const char *path, int depth);

static struct err *add_symlink(struct pack *p, int dir, const char *name, const char *path, const struct stat *st)
{
    char target[UNPACK_PATH_SIZE];
    ssize_t n = readlinkat(dir, name, target, sizeof(target));

    if (n <= 0 || (size_t)n == sizeof(target))
        return err_new(ERR_INVALID, "its link target is missing or too long");
    target[n] = '\0';
    if (!unpack_link_inside(path, target))
        return err_reason(err_new(ERR_INVALID, "its link target '%s' leads outside of the kit", target), "KIT_PATH");
    return add_entry(p, path, st, -1, target);
}

static struct err *add_name(struct pack *p, int dir, const char *name, const char *path, int depth)
{
    autofd int fd = -1;
    struct stat st;
    struct err *e;

    if (++p->entries > ENTRIES_MAX)
        return err_new(ERR_TOO_LARGE, "a kit has at most %d files", ENTRIES_MAX);
    if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return err_errno(errno, "stat");
    if (S_ISLNK(st.st_mode))
        return add_symlink(p, dir, name, path, &st);
    if (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode))
        return err_new(ERR_INVALID, "neither file, directory nor symlink");
    if (st.st_mode & (S_ISUID | S_ISGID) && S_ISREG(st.st_mode))
        return err_new(ERR_INVALID, "set-id bits are refused");
    fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0)
        return err_errno(errno, "open");
    e = add_entry(p, path, &st, S_ISREG(st.st_mode) ? fd : -1, NULL);
    return e || !S_ISDIR(st.st_mode) ? e : add_dir(p, fd, path, depth + 1);
}

static int no_dots(const struct dirent *entry)
{
    return !str_eq(entry->d_name, ".") && !str_eq(entry->d_name, "..");
}

/* By bytes: the same in every locale. */
static int by_name(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

static struct err *add_dir(struct pack *p, int dir, const char *path, int depth)
{
    struct dirent **names = NULL;
    struct err *e = NULL;
    int n = depth < DEPTH_MAX ? scandirat(dir, ".", &names, no_dots, by_name) : 0;

    if (depth >= DEPTH_MAX)
        return err_new(ERR_INVALID, "'%s' is too deep", path);
    if (n < 0)
        return err_errno(errno, "'%s'", path);
    for (int i = 0; i < n; i++) {
        autofree char *below = *path ? str_fmt("%s/%s", path, names[i]->d_name) : str_dup(names[i]->d_name);

        if (!e) {
            char clean[UNPACK_PATH_SIZE];

            e = unpack_path(below, clean);
            if (!e)
                e = add_name(p, dir, names[i]->d_name, below, depth);
            if (e && !e->field)
                e = err_at(err_wrap(e, "file '%.300s'", below), "file");
        }
        free(names[i]);
    }
    free(names);
    return e;
}

struct err *bundle_pack(int tree_fd, int out_fd, char ret_sha256[BUNDLE_SHA256_SIZE], int64_t *ret_size)
{
    struct pack p = {.tar = archive_write_new(), .digest = EVP_MD_CTX_new(), .out = out_fd};
    unsigned char sum[EVP_MAX_MD_SIZE];
    unsigned int len = 0;
    struct err *e = NULL;

    if (!p.tar || !p.digest || EVP_DigestInit_ex(p.digest, EVP_sha256(), NULL) != 1)
        abort();
    if (archive_write_set_format_gnutar(p.tar) != ARCHIVE_OK ||
        archive_write_set_bytes_per_block(p.tar, 0) != ARCHIVE_OK ||
        archive_write_set_bytes_in_last_block(p.tar, 1) != ARCHIVE_OK ||
        archive_write_open(p.tar, &p, NULL, take, NULL) != ARCHIVE_OK)
        e = tar_failed(&p);
    if (!e)
        e = add_dir(&p, tree_fd, "", 0);
    if (!e && archive_write_close(p.tar) != ARCHIVE_OK)
        e = tar_failed(&p);
    if (!e)
        e = end_frame(&p);
    if (EVP_DigestFinal_ex(p.digest, sum, &len) != 1)
        abort();
    str_hex(sum, len, ret_sha256);
    *ret_size = p.bytes;
    archive_write_free(p.tar);
    EVP_MD_CTX_free(p.digest);
    free(p.frame);
    return e;
}
