/* SPDX-License-Identifier: Apache-2.0 */
#include "transfer/wire.h"

#include <openssl/evp.h>
#include <zstd.h>

#include "base/frame.h"
#include "base/json_table.h"
#include "base/pace.h"
#include "base/str.h"

enum { LEVEL = 1 }; /* of zstd: what is read from a disk passes it without waiting */

struct wire {
    struct wire_config config;
    bool in_run; /* sending: pieces are due */
    int64_t bytes;
    struct pace pace;
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
    struct err *e = pace_limits(config->fd, 0);

    w->config = *config;
    w->pace = (struct pace){.fd = config->fd, .other = config->other, .limit_s = config->pace_s};
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

/* Bytes have passed, or the other said that more will come. */
static struct err *check_idles(struct wire *w)
{
    if (w->pace.moved == 0)
        w->idles = 0;
    return w->idles > WIRE_IDLES_MAX ? pace_too_slow(&w->pace) : NULL;
}

static struct err *put(struct wire *w, const void *data, size_t len)
{
    struct err *e = pace_write(&w->pace, data, len);

    w->bytes += (int64_t)len;
    return e ? e : check_idles(w);
}

static struct err *put_length(struct wire *w, uint32_t len)
{
    unsigned char head[4];

    frame_store_length(head, len);
    return put(w, head, sizeof(head));
}

/* In one form, whoever wrote it; the caller frees the text. */
static struct err *sum_frame(struct wire *w, const json_t *j, char **ret)
{
    autofree char *text = json_dumps(j, JSON_COMPACT | JSON_SORT_KEYS);

    if (!text || EVP_DigestUpdate(w->all, text, strlen(text)) != 1)
        return no_digest();
    *ret = steal(&text);
    return NULL;
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
    autofree char *text = NULL;
    struct err *e = sum_frame(w, j, &text);

    if (!e && strlen(text) > FRAME_MAX)
        e = err_new(ERR_TOO_LARGE, "a frame of %zu bytes", strlen(text));
    if (!e)
        e = put_length(w, (uint32_t)strlen(text));
    return e ? e : put(w, text, strlen(text));
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
    unsigned char *p = data;

    for (size_t at = 0, n = 0; at < len; at += n) {
        struct err *e = pace_read(&w->pace, p + at, len - at, &n);

        if (e || n == 0)
            return e ? e : broken(w);
    }
    w->bytes += (int64_t)len;
    return check_idles(w);
}

static struct err *get_json(struct wire *w, json_t **ret)
{
    autofree char *text = NULL;
    unsigned char head[4];
    struct err *e = get(w, head, sizeof(head));
    uint32_t len = e ? 0 : frame_load_length(head);

    if (!e && len > FRAME_MAX)
        e = err_new(w->config.wrong, "%s has a frame of %u bytes", w->config.other, len);
    if (e)
        return e;
    text = mem_alloc(1, (size_t)len + 1);
    e = get(w, text, len);
    if (!e && !(*ret = json_loadb(text, len, JSON_REJECT_DUPLICATES, NULL)))
        e = wrong(w, "has a frame that is not JSON");
    return e;
}

struct err *wire_receive_frame(struct wire *w, json_t **ret)
{
    autofree char *text = NULL;
    autojson j = NULL;
    struct err *e = get_json(w, &j);

    if (e)
        return e;
    if (json_is_object(json_object_get(j, "error")))
        return err_wrap(err_recode(err_from_json(json_object_get(j, "error")), w->config.wrong), "%s", w->config.other);
    if (!json_is_object(j))
        return wrong(w, "has what is no frame");
    e = sum_frame(w, j, &text);
    if (!e)
        *ret = steal(&j);
    return e;
}

struct err *wire_receive_end(struct wire *w)
{
    char more;
    size_t n = 0;
    struct err *e = pace_read(&w->pace, &more, 1, &n);

    return e || n == 0 ? e : wrong(w, "has something behind its end");
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
            w->pace.waited_us = 0;
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
