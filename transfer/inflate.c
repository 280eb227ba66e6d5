/* SPDX-License-Identifier: Apache-2.0 */
#include "transfer/inflate.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>
#include <zstd.h>

#include "base/fd.h"
#include "base/frame.h"
#include "base/json_table.h"
#include "base/pace.h"
#include "transfer/link.h"
#include "transfer/wire.h"

struct inflating {
    int in, out;
    bool in_run; /* pieces are due there, and no frame */
    ZSTD_DCtx *z;
    unsigned char head[4], packed[WIRE_PIECE_MAX], plain[WIRE_PIECE_MAX];
};

/* Silence is judged by who reads; the sender may take his time here. */
static struct err *get(const struct inflating *x, void *data, size_t len)
{
    unsigned char *p = data;

    while (len > 0) {
        ssize_t n = read(x->in, p, len);

        if (n < 0 && (errno == EINTR || errno == EAGAIN))
            continue;
        if (n <= 0)
            return n < 0 ? err_errno(errno, "read") : err_new(ERR_CANCELLED, "the stream is cut off");
        p += n;
        len -= (size_t)n;
    }
    return NULL;
}

static struct err *give(struct inflating *x, uint32_t word, const void *data, size_t len)
{
    struct err *e;

    frame_store_length(x->head, word);
    e = fd_write_all(x->out, x->head, sizeof(x->head));
    return e ? e : fd_write_all(x->out, data, len);
}

static struct err *pass_piece(struct inflating *x, uint32_t word)
{
    size_t len = word & ~WIRE_PACKED, plain;
    struct err *e;

    if (len > WIRE_PIECE_MAX)
        return err_new(ERR_INVALID, "a piece of %zu bytes", len);
    e = get(x, x->packed, len);
    if (e || !(word & WIRE_PACKED))
        return e ? e : give(x, word, x->packed, len);
    plain = ZSTD_decompressDCtx(x->z, x->plain, sizeof(x->plain), x->packed, len);
    if (ZSTD_isError(plain) || plain == 0)
        return err_new(ERR_INVALID, "a packed piece is damaged: %s", plain ? ZSTD_getErrorName(plain) : "it is empty");
    return give(x, (uint32_t)plain, x->plain, plain);
}

static struct err *pass_run(struct inflating *x)
{
    for (;;) {
        struct err *e = get(x, x->head, sizeof(x->head));
        uint32_t word = e ? 0 : frame_load_length(x->head);

        if (e)
            return e;
        if (word == WIRE_IDLE || word == WIRE_BROKEN)
            e = give(x, word, NULL, 0);
        else if (word != 0)
            e = pass_piece(x, word);
        else if (!(e = get(x, x->packed, WIRE_SUM)))
            return give(x, 0, x->packed, WIRE_SUM);
        x->in_run = x->in_run && word != WIRE_BROKEN;
        if (e)
            return e;
        if (word == WIRE_BROKEN)
            return NULL;
    }
}

/* Frames are given on as they are read: what is in them, is for who reads them. */
static struct err *get_frame(struct inflating *x, json_t **ret)
{
    autofree char *text = NULL;
    struct err *e = get(x, x->head, sizeof(x->head));
    uint32_t len = e ? 0 : frame_load_length(x->head);

    if (!e && len > FRAME_MAX)
        return err_new(ERR_INVALID, "a frame of %u bytes", len);
    if (e)
        return e;
    text = mem_alloc(1, (size_t)len + 1);
    e = get(x, text, len);
    if (!e)
        e = give(x, len, text, len);
    if (!e)
        *ret = json_loadb(text, len, JSON_REJECT_DUPLICATES, NULL);
    return e;
}

static struct err *at_end(struct inflating *x)
{
    struct err *e = get(x, x->head, 1);

    if (e && e->code == ERR_CANCELLED) {
        err_free(e);
        return NULL;
    }
    return e ? e : err_new(ERR_INVALID, "there is something behind the end");
}

static struct err *pass_on(struct inflating *x)
{
    for (;;) {
        autojson frame = NULL;
        struct err *e = get_frame(x, &frame);

        if (!e && !frame)
            return NULL; /* who reads it finds it wrong, too */
        if (!e && json_object_get(frame, "end"))
            return at_end(x);
        if (e)
            return e;
        x->in_run = json_object_get(frame, "stream") != NULL;
        if (x->in_run)
            e = pass_run(x);
        if (e)
            return e;
    }
}

/* What is cut off is seen there, too. */
static NORETURN void be_inflater(struct inflating *x, const char *empty_dir)
{
    int fds[2] = {x->in, x->out};
    struct err *e = link_confine(empty_dir, fds);

    x->in = fds[0];
    x->out = fds[1];
    if (!e)
        e = pass_on(x);
    if (e && e->code != ERR_CANCELLED) {
        autojson frame = json_pack("{s:o}", "error", err_to_json(e));

        if (x->in_run)
            err_ignore(give(x, WIRE_BROKEN, NULL, 0));
        err_ignore(frame_send(x->out, frame));
    }
    _exit(0);
}

struct err *inflate_open(int fd, const char *empty_dir, int *ret)
{
    autofree struct inflating *x = mem_new(struct inflating);
    autofd int ours = -1, theirs = -1;
    struct err *e = fd_mkdirs(empty_dir, 0711);
    int pair[2];
    pid_t pid;

    if (!e)
        e = pace_limits(fd, 0);
    if (e)
        return e;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return err_errno(errno, "socketpair");
    ours = pair[0];
    theirs = pair[1];
    x->in = fd;
    x->out = theirs;
    x->z = ZSTD_createDCtx();
    pid = x->z ? fork() : -1;
    if (pid == 0)
        be_inflater(x, empty_dir);
    ZSTD_freeDCtx(x->z);
    if (pid < 0)
        return err_errno(errno, "fork");
    *ret = fd_steal(&ours);
    return NULL;
}
