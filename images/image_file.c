/* SPDX-License-Identifier: Apache-2.0 */
#include "images/image_file.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <poll.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "base/pace.h"
#include "base/str.h"
#include "storage/layout.h"

#define BLOCK 262144

struct reading {
    const struct image_import *in;
    EVP_MD_CTX *digest;
    int64_t done, told;
    char *block;
    struct pace pace;
};

static struct err *took(struct reading *r, size_t n)
{
    if (EVP_DigestUpdate(r->digest, r->block, n) != 1)
        return err_new(ERR_INTERNAL, "sha256");
    r->done += (int64_t)n;
    if (r->done > IMAGE_ARCHIVE_MAX)
        return err_new(ERR_TOO_LARGE, "the archive has more than %lld bytes", (long long)IMAGE_ARCHIVE_MAX);
    if (r->in->progress && r->done - r->told > (INT64_C(8) << 20)) {
        r->told = r->done;
        r->in->progress(r->in->owner, r->done, 0);
    }
    return NULL;
}

/* A file without a name: gone with the process, however that ends. Everybody may read it, who can: sqfs2tar does. */
static struct err *nameless(const char *pool, int *ret)
{
    autofree char *images = layout_images(pool);
    struct err *e = fd_mkdirs(images, 0700);

    if (e)
        return e;
    *ret = open(images, O_RDWR | O_TMPFILE | O_CLOEXEC, 0444);
    return *ret < 0 ? err_errno(errno, "cannot make a file in '%s'", images) : NULL;
}

/* Up to max bytes (0: all) from `from` to `to` (-1: only read). *ret_len: how many there were. */
static struct err *copy(struct reading *r, int from, int to, int64_t max, int64_t *ret_len)
{
    int64_t begun = r->done;

    r->pace.fd = from;
    while (max == 0 || r->done - begun < max) {
        size_t want = max ? (size_t)MIN(max - (r->done - begun), BLOCK) : BLOCK;
        size_t n = 0;
        struct err *e = pace_read(&r->pace, r->block, want, &n);

        if (!e && n == 0)
            break;
        if (!e)
            e = took(r, n);
        if (!e && to >= 0)
            e = err_wrap(fd_write_all(to, r->block, n), "cannot keep the archive");
        if (e)
            return e;
    }
    *ret_len = r->done - begun;
    return NULL;
}

/* A sender that is through has shut down its side; one that was cut off has closed it. */
static struct err *check_end(int stream)
{
    struct pollfd p = {.fd = stream, .events = POLLIN};

    if (poll(&p, 1, 0) >= 0 && !(p.revents & (POLLHUP | POLLERR)))
        return NULL;
    return err_new(ERR_CANCELLED, "the sender went away before the end");
}

static struct err *take_stream(struct reading *r, struct image_files *ret)
{
    const struct image_import *in = r->in;
    int64_t len = 0;
    struct err *e = nameless(in->pool, &ret->root);

    if (!e && in->split_bytes > 0) {
        e = nameless(in->pool, &ret->metadata);
        if (!e)
            e = copy(r, in->stream, ret->metadata, in->split_bytes, &len);
        if (!e && len < in->split_bytes)
            e = err_new(ERR_INVALID, "there are fewer bytes than the metadata's file has");
    }
    if (!e)
        e = copy(r, in->stream, ret->root, 0, &len);
    return e ? e : check_end(in->stream);
}

static struct err *open_file(struct reading *r, const char *path, int *ret)
{
    autofd int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    int64_t len = 0;
    struct stat st;
    struct err *e;

    if (fd < 0)
        return err_recode(err_errno(errno, "image archive '%s'", path), errno == ENOENT ? ERR_NOT_FOUND : ERR_HOST);
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
        return err_new(ERR_INVALID, "image archive '%s' is no regular file", path);
    if (image_is_squashfs(fd) && !(st.st_mode & 0004)) {
        e = nameless(r->in->pool, ret);
        return e ? e : copy(r, fd, *ret, 0, &len);
    }
    e = copy(r, fd, -1, 0, &len);
    *ret = fd_steal(&fd);
    return e;
}

static struct err *rewind_both(const struct image_files *files)
{
    if (lseek(files->root, 0, SEEK_SET) < 0 || (files->metadata >= 0 && lseek(files->metadata, 0, SEEK_SET) < 0))
        return err_errno(errno, "lseek");
    return NULL;
}

struct err *image_files_open(const struct image_import *in, struct image_files *ret,
                             char ret_fingerprint[IMAGE_FINGERPRINT_SIZE])
{
    struct reading r = {.in = in, .digest = EVP_MD_CTX_new(), .pace.other = "who sends the archive"};
    unsigned char bytes[EVP_MAX_MD_SIZE];
    unsigned len = 0;
    struct err *e = NULL;

    r.block = mem_alloc(1, BLOCK);
    if (!r.digest || EVP_DigestInit_ex(r.digest, EVP_sha256(), NULL) != 1)
        e = err_new(ERR_INTERNAL, "sha256");
    if (!e && in->file) {
        if (in->metadata_file)
            e = open_file(&r, in->metadata_file, &ret->metadata);
        if (!e)
            e = open_file(&r, in->file, &ret->root);
    } else if (!e) {
        e = take_stream(&r, ret);
    }
    if (!e && EVP_DigestFinal_ex(r.digest, bytes, &len) != 1)
        e = err_new(ERR_INTERNAL, "sha256");
    if (!e)
        e = rewind_both(ret);
    if (!e)
        str_hex(bytes, len, ret_fingerprint);
    ret->input_bytes = r.done;
    EVP_MD_CTX_free(r.digest);
    free(r.block);
    return e;
}
