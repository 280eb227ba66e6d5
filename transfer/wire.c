/* SPDX-License-Identifier: Apache-2.0 */
#include "transfer/wire.h"

#include <errno.h>
#include <openssl/evp.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/frame.h"
#include "base/json_table.h"
#include "transfer/link.h"

/* In place of a piece's length: an error frame follows; nothing, but the sender is there. */
#define BROKEN UINT32_MAX
#define IDLE (UINT32_MAX - 1)
enum { PIECE_MAX = 256 * 1024, SUM = 32 };

struct wire {
    int fd;
    bool in_run; /* sending: pieces are due */
    int64_t bytes;
    EVP_MD_CTX *sum;
    unsigned char *buf;
};

struct err *wire_new(int fd, struct wire **ret)
{
    auto_(wire_free) struct wire *w = mem_new(struct wire);
    struct err *e = link_set_limits(fd, 0);

    w->fd = fd;
    w->buf = mem_new_array(unsigned char, PIECE_MAX);
    w->sum = EVP_MD_CTX_new();
    if (!e && (!w->sum || EVP_DigestInit_ex(w->sum, EVP_sha256(), NULL) != 1))
        e = err_new(ERR_INTERNAL, "OpenSSL has no SHA-256");
    if (!e)
        *ret = steal(&w);
    return e;
}

void wire_free(struct wire *w)
{
    if (!w)
        return;
    EVP_MD_CTX_free(w->sum);
    free(w->buf);
    free(w);
}

int64_t wire_bytes(const struct wire *w)
{
    return w->bytes;
}

/* A stall is an error like a broken connection, but says what it is. */
static struct err *stalled(struct err *e)
{
    if (e && (errno == EAGAIN || errno == EWOULDBLOCK)) {
        err_free(e);
        return err_new(ERR_TIMEOUT, "the other node was silent for %d seconds", LINK_STALL_S);
    }
    return e;
}

static struct err *put(struct wire *w, const void *data, size_t len)
{
    errno = 0;
    w->bytes += (int64_t)len;
    return err_wrap(stalled(fd_write_all(w->fd, data, len)), "sending to the other node");
}

static struct err *put_length(struct wire *w, uint32_t len)
{
    const unsigned char head[4] = {(unsigned char)len, (unsigned char)(len >> 8), (unsigned char)(len >> 16),
                                   (unsigned char)(len >> 24)};

    return put(w, head, sizeof(head));
}

struct err *wire_send_frame(struct wire *w, const json_t *j)
{
    autofree char *text = json_dumps(j, JSON_COMPACT);

    errno = 0;
    w->bytes += 4 + (text ? (int64_t)strlen(text) : 0);
    return err_wrap(stalled(frame_send(w->fd, j)), "sending to the other node");
}

struct err *wire_send(void *owner, const void *data, size_t len)
{
    const unsigned char *p = data;
    struct wire *w = owner;
    struct err *e = NULL;

    w->in_run = true;
    if (len == 0)
        return put_length(w, IDLE);
    while (!e && len > 0) {
        size_t n = MIN(len, PIECE_MAX);

        if (EVP_DigestUpdate(w->sum, p, n) != 1)
            return err_new(ERR_INTERNAL, "SHA-256 fails");
        e = put_length(w, (uint32_t)n);
        if (!e)
            e = put(w, p, n);
        p += n;
        len -= n;
    }
    return e;
}

/* And begins the next one. */
static struct err *finish_sum(struct wire *w, unsigned char sum[SUM])
{
    if (EVP_DigestFinal_ex(w->sum, sum, NULL) != 1 || EVP_DigestInit_ex(w->sum, EVP_sha256(), NULL) != 1)
        return err_new(ERR_INTERNAL, "SHA-256 fails");
    return NULL;
}

struct err *wire_send_end(struct wire *w)
{
    unsigned char sum[SUM];
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
        err_ignore(put_length(w, BROKEN));
    err_ignore(wire_send_frame(w, j));
}

static struct err *broken(void)
{
    return err_new(ERR_CANCELLED, "the connection to the other node broke");
}

static struct err *get(struct wire *w, void *data, size_t len)
{
    unsigned char *p = data;

    for (size_t at = 0; at < len;) {
        ssize_t n = read(w->fd, p + at, len - at);

        if (n < 0 && errno == EINTR)
            continue;
        if (n == 0)
            return broken();
        if (n < 0)
            return stalled(err_errno(errno, "receiving from the other node"));
        at += (size_t)n;
    }
    w->bytes += (int64_t)len;
    return NULL;
}

static uint32_t length(const unsigned char p[4])
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

struct err *wire_receive_frame(struct wire *w, json_t **ret)
{
    autojson j = NULL;
    struct err *e;

    errno = 0;
    e = stalled(frame_receive(w->fd, &j));
    if (e && e->code == ERR_CANCELLED) {
        err_free(e);
        return broken();
    }
    if (e)
        return e;
    w->bytes += 4;
    if (json_is_object(json_object_get(j, "error")))
        return err_wrap(err_recode(err_from_json(json_object_get(j, "error")), ERR_HOST), "the other node");
    if (!json_is_object(j))
        return err_new(ERR_HOST, "the other node sends what is no frame");
    *ret = steal(&j);
    return NULL;
}

/* After BROKEN. */
static struct err *its_error(struct wire *w)
{
    autojson j = NULL;
    struct err *e = wire_receive_frame(w, &j);

    return e ? e : err_new(ERR_HOST, "the other node broke off without an error");
}

static struct err *check_sum(struct wire *w)
{
    unsigned char mine[SUM], theirs[SUM];
    struct err *e = finish_sum(w, mine);

    if (!e)
        e = get(w, theirs, sizeof(theirs));
    if (!e && memcmp(mine, theirs, SUM) != 0)
        e = err_new(ERR_HOST, "what came from the other node does not have its checksum");
    return e;
}

struct err *wire_receive(struct wire *w, wire_sink_fn *sink, void *owner)
{
    for (;;) {
        unsigned char head[4];
        struct err *e = get(w, head, sizeof(head));
        uint32_t len = e ? 0 : length(head);

        if (e)
            return e;
        if (len == 0)
            return check_sum(w);
        if (len == BROKEN)
            return its_error(w);
        if (len == IDLE)
            continue;
        if (len > PIECE_MAX)
            return err_new(ERR_HOST, "the other node sends a piece of %u bytes", len);
        e = get(w, w->buf, len);
        if (!e && EVP_DigestUpdate(w->sum, w->buf, len) != 1)
            e = err_new(ERR_INTERNAL, "SHA-256 fails");
        if (!e)
            e = sink(owner, w->buf, len);
        if (e)
            return e;
    }
}
