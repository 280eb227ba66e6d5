/* SPDX-License-Identifier: Apache-2.0 */
#include "base/frame.h"

#include <errno.h>

#include "base/fd.h"

struct err *frame_send(int fd, const json_t *j)
{
    autofree char *text = json_dumps(j, JSON_COMPACT | JSON_ENCODE_ANY);
    size_t len = text ? strlen(text) : 0;
    unsigned char head[4];
    struct err *e;

    if (!text || len > FRAME_MAX)
        return err_new(ERR_TOO_LARGE, "a frame of %zu bytes", len);
    frame_store_length(head, (uint32_t)len);
    e = fd_write_all(fd, head, sizeof(head));
    return e ? e : fd_write_all(fd, text, len);
}

static struct err *read_exactly(int fd, void *buf, size_t len)
{
    char *p = buf;

    while (len) {
        ssize_t n = read(fd, p, len);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_errno(errno, "read of a frame");
        if (n == 0)
            return err_new(ERR_CANCELLED, "the peer closed the connection");
        p += n;
        len -= (size_t)n;
    }
    return NULL;
}

static struct err *parse(const char *text, size_t len, json_t **ret)
{
    json_error_t error;

    *ret = json_loadb(text, len, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &error);
    return *ret ? NULL : err_new(ERR_INTERNAL, "a frame is not JSON: %s", error.text);
}

struct err *frame_receive(int fd, json_t **ret)
{
    autofree char *text = NULL;
    unsigned char head[4];
    struct err *e = read_exactly(fd, head, sizeof(head));
    uint32_t len;

    if (e)
        return e;
    len = frame_load_length(head);
    if (len > FRAME_MAX)
        return err_new(ERR_TOO_LARGE, "a frame of %u bytes", len);
    text = mem_new_array(char, len + 1);
    e = read_exactly(fd, text, len);
    return e ? e : parse(text, len, ret);
}

struct err *frame_reader_feed(struct frame_reader *r, const char *data, size_t len)
{
    if (r->len + len > FRAME_MAX + 4)
        return err_new(ERR_TOO_LARGE, "a frame over %u bytes", FRAME_MAX);
    if (r->len + len > r->size) {
        r->size = MAX(r->size * 2, r->len + len);
        r->buf = mem_grow(r->buf, r->size, 1);
    }
    memcpy(r->buf + r->len, data, len);
    r->len += len;
    return NULL;
}

struct err *frame_reader_next(struct frame_reader *r, json_t **ret)
{
    struct err *e;
    size_t len;

    *ret = NULL;
    if (r->len < 4)
        return NULL;
    len = frame_load_length((const unsigned char *)r->buf);
    if (len > FRAME_MAX)
        return err_new(ERR_TOO_LARGE, "a frame of %zu bytes", len);
    if (r->len < len + 4)
        return NULL;
    e = parse(r->buf + 4, len, ret);
    memmove(r->buf, r->buf + 4 + len, r->len - 4 - len);
    r->len -= len + 4;
    return e;
}

void frame_reader_done(struct frame_reader *r)
{
    free(r->buf);
    *r = (struct frame_reader){0};
}
