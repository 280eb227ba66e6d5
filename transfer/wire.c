/* SPDX-License-Identifier: Apache-2.0 */
#include "transfer/wire.h"

#include <errno.h>
#include <openssl/evp.h>
#include <unistd.h>
#include <zstd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/frame.h"
#include "base/json_table.h"
#include "base/str.h"
#include "transfer/link.h"

enum { LEVEL = 1 }; /* of zstd: what is read from a disk passes it without waiting */

struct wire {
    struct wire_config config;
    bool in_run; /* sending: pieces are due */
    int64_t bytes;
    int64_t waited_us, moved; /* for the other, and what came of it: see keep_pace */
    int idles;
    EVP_MD_CTX *sum, *all; /* of this run; of all frames and runs */
    ZSTD_CCtx *packer;     /* NULL: pieces go as they are */
    unsigned char *buf;
};

static struct err *no_digest(void)
{
    return err_new(ERR_INTERNAL, "OpenSSL has no SHA-256");
}

static EVP_MD_CTX *new_sum(void)
{
    EVP_MD_CTX *sum = EVP_MD_CTX_new();

    if (!sum || EVP_DigestInit_ex(sum, EVP_sha256(), NULL) != 1)
        abort();
    return sum;
}

struct err *wire_new(const struct wire_config *config, struct wire **ret)
{
    auto_(wire_free) struct wire *w = mem_new(struct wire);
    struct err *e = link_set_limits(config->fd, 0);

    w->config = *config;
    w->buf = mem_new_array(unsigned char, WIRE_PIECE_MAX);
    w->sum = new_sum();
    w->all = new_sum();
    if (config->packed) {
        w->packer = ZSTD_createCCtx();
        if (!w->packer)
            abort();
    }
    if (!e)
        *ret = steal(&w);
    return e;
}

void wire_free(struct wire *w)
{
    if (!w)
        return;
    EVP_MD_CTX_free(w->sum);
    EVP_MD_CTX_free(w->all);
    ZSTD_freeCCtx(w->packer);
    free(w->buf);
    free(w);
}

int64_t wire_bytes(const struct wire *w)
{
    return w->bytes;
}

/* A stall is an error like a broken connection, but says what it is. */
static struct err *stalled(const struct wire *w, struct err *e)
{
    if (e && (errno == EAGAIN || errno == EWOULDBLOCK)) {
        err_free(e);
        return err_new(ERR_TIMEOUT, "%s was silent for %d seconds", w->config.other, LINK_STALL_S);
    }
    return e;
}

/* len bytes have passed, which was waited for since then. */
static struct err *keep_pace(struct wire *w, int64_t since_us, size_t len)
{
    int64_t limit_us = (int64_t)(w->config.pace_s ? w->config.pace_s : WIRE_PACE_S) * 1000000;

    w->waited_us += clock_mono_us() - since_us;
    w->moved += (int64_t)len;
    if (w->moved >= WIRE_PACE_BYTES) {
        w->moved = w->waited_us = 0;
        w->idles = 0;
    }
    if (w->waited_us <= limit_us && w->idles <= WIRE_IDLES_MAX)
        return NULL;
    return err_new(ERR_TIMEOUT, "%s is too slow: less than %d MiB in %lld seconds", w->config.other,
                   WIRE_PACE_BYTES >> 20, (long long)limit_us / 1000000);
}

static struct err *put(struct wire *w, const void *data, size_t len)
{
    int64_t since = clock_mono_us();
    struct err *e;

    errno = 0;
    w->bytes += (int64_t)len;
    e = stalled(w, fd_write_all(w->config.fd, data, len));
    if (!e)
        e = keep_pace(w, since, len);
    return err_wrap(e, "sending to %s", w->config.other);
}

static struct err *put_length(struct wire *w, uint32_t len)
{
    unsigned char head[4];

    frame_store_length(head, len);
    return put(w, head, sizeof(head));
}

/* In one form, whoever wrote it. */
static struct err *sum_frame(struct wire *w, const json_t *j, size_t *ret_len)
{
    autofree char *text = json_dumps(j, JSON_COMPACT | JSON_SORT_KEYS);

    *ret_len = text ? strlen(text) : 0;
    return text && EVP_DigestUpdate(w->all, text, *ret_len) == 1 ? NULL : no_digest();
}

struct err *wire_digest(struct wire *w, char ret[WIRE_DIGEST_SIZE])
{
    EVP_MD_CTX *copy = EVP_MD_CTX_new();
    unsigned char sum[WIRE_SUM];
    bool ok = copy && EVP_MD_CTX_copy_ex(copy, w->all) == 1 && EVP_DigestFinal_ex(copy, sum, NULL) == 1;

    EVP_MD_CTX_free(copy);
    if (ok)
        str_hex(sum, WIRE_SUM, ret);
    return ok ? NULL : no_digest();
}

struct err *wire_send_frame(struct wire *w, const json_t *j)
{
    size_t len = 0;
    struct err *e = sum_frame(w, j, &len);

    if (e)
        return e;
    errno = 0;
    w->bytes += 4 + (int64_t)len;
    return err_wrap(stalled(w, frame_send(w->config.fd, j)), "sending to %s", w->config.other);
}

/* Packed when that makes it smaller. */
static struct err *put_piece(struct wire *w, const unsigned char *p, size_t len)
{
    size_t packed = w->packer ? ZSTD_compressCCtx(w->packer, w->buf, len - 1, p, len, LEVEL) : 0;
    bool smaller = w->packer && !ZSTD_isError(packed);
    struct err *e = put_length(w, smaller ? (uint32_t)packed | WIRE_PACKED : (uint32_t)len);

    return e ? e : put(w, smaller ? w->buf : p, smaller ? packed : len);
}

struct err *wire_send(void *owner, const void *data, size_t len)
{
    const unsigned char *p = data;
    struct wire *w = owner;
    struct err *e = NULL;

    w->in_run = true;
    if (len == 0)
        return put_length(w, WIRE_IDLE);
    while (!e && len > 0) {
        size_t n = MIN(len, WIRE_PIECE_MAX);

        e = EVP_DigestUpdate(w->sum, p, n) == 1 ? put_piece(w, p, n) : no_digest();
        p += n;
        len -= n;
    }
    return e;
}

/* And begins the next one. */
static struct err *finish_sum(struct wire *w, unsigned char sum[WIRE_SUM])
{
    if (EVP_DigestFinal_ex(w->sum, sum, NULL) != 1 || EVP_DigestInit_ex(w->sum, EVP_sha256(), NULL) != 1 ||
        EVP_DigestUpdate(w->all, sum, WIRE_SUM) != 1)
        return no_digest();
    return NULL;
}

struct err *wire_send_end(struct wire *w)
{
    unsigned char sum[WIRE_SUM];
    struct err *e = put_length(w, 0);

    if (!e)
        e = finish_sum(w, sum);
    w->in_run = false;
    return e ? e : put(w, sum, sizeof(sum));
}

void wire_send_error(struct wire *w, const struct err *e)
{
    autojson j = json_pack("{s:o}", "error", err_to_json(e));

    if (w->in_run)
        err_ignore(put_length(w, WIRE_BROKEN));
    err_ignore(wire_send_frame(w, j));
}

static struct err *wrong(const struct wire *w, const char *what)
{
    return err_new(w->config.wrong, "%s %s", w->config.other, what);
}

static struct err *broken(const struct wire *w)
{
    return err_new(w->config.cut, "%s broke off before the end", w->config.other);
}

static struct err *get(struct wire *w, void *data, size_t len)
{
    int64_t since = clock_mono_us();
    unsigned char *p = data;

    for (size_t at = 0; at < len;) {
        ssize_t n = read(w->config.fd, p + at, len - at);

        if (n < 0 && errno == EINTR)
            continue;
        if (n == 0)
            return broken(w);
        if (n < 0)
            return stalled(w, err_errno(errno, "receiving from %s", w->config.other));
        at += (size_t)n;
    }
    w->bytes += (int64_t)len;
    return keep_pace(w, since, len);
}

struct err *wire_receive_frame(struct wire *w, json_t **ret)
{
    autojson j = NULL;
    size_t len = 0;
    struct err *e;

    errno = 0;
    e = stalled(w, frame_receive(w->config.fd, &j));
    if (e && e->code == ERR_CANCELLED) {
        err_free(e);
        return broken(w);
    }
    if (e)
        return e->code == ERR_TIMEOUT ? e : err_recode(e, w->config.wrong);
    if (json_is_object(json_object_get(j, "error")))
        return err_wrap(err_recode(err_from_json(json_object_get(j, "error")), w->config.wrong), "%s", w->config.other);
    if (!json_is_object(j))
        return wrong(w, "has what is no frame");
    e = sum_frame(w, j, &len);
    w->bytes += 4 + (int64_t)len;
    if (!e)
        *ret = steal(&j);
    return e;
}

struct err *wire_receive_end(struct wire *w)
{
    autojson frame = NULL;
    struct err *e = stalled(w, frame_receive(w->config.fd, &frame));

    if (e && e->code == ERR_CANCELLED) {
        err_free(e);
        return NULL;
    }
    err_free(e);
    return wrong(w, "has something behind its end");
}

/* After WIRE_BROKEN. */
static struct err *its_error(struct wire *w)
{
    autojson j = NULL;
    struct err *e = wire_receive_frame(w, &j);

    return e ? e : wrong(w, "broke off without an error");
}

static struct err *check_sum(struct wire *w)
{
    unsigned char mine[WIRE_SUM], theirs[WIRE_SUM];
    struct err *e = finish_sum(w, mine);

    if (!e)
        e = get(w, theirs, sizeof(theirs));
    if (!e && memcmp(mine, theirs, WIRE_SUM) != 0)
        e = wrong(w, "has a run of bytes that is not of its checksum");
    return e;
}

struct err *wire_receive(struct wire *w, wire_sink_fn *sink, void *owner)
{
    for (;;) {
        unsigned char head[4];
        struct err *e = get(w, head, sizeof(head));
        uint32_t len = e ? 0 : frame_load_length(head);

        if (e)
            return e;
        if (len == 0)
            return check_sum(w);
        if (len == WIRE_BROKEN)
            return its_error(w);
        if (len == WIRE_IDLE) {
            w->idles++;
            w->waited_us = 0;
            continue;
        }
        if (len > WIRE_PIECE_MAX)
            return wrong(w, "has a piece that is too long");
        e = get(w, w->buf, len);
        if (!e && EVP_DigestUpdate(w->sum, w->buf, len) != 1)
            e = no_digest();
        if (!e)
            e = sink(owner, w->buf, len);
        if (e)
            return e;
    }
}
