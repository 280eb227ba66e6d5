/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/transfer/download.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/api/api.h"
#include "base/log.h"

enum { BLOCK = 65536 };

struct download {
    struct http_request *req;   /* NULL: it has its answer */
    struct http_stream *stream; /* NULL: not begun, or gone */
    const char *content_type;
    int fd;
    uv_poll_t poll;
    bool ended, job_over; /* ended: no byte comes any more, or nobody wants them */
    struct err *error;
    void *owner;
    void (*done)(void *owner, const struct err *e);
};

static void on_closed(uv_handle_t *h)
{
    struct download *d = h->data;

    close(d->fd);
    err_free(d->error);
    free(d);
}

/* Both the bytes and the job are over. */
static void finish(struct download *d)
{
    if (!d->ended || !d->job_over)
        return;
    if (d->req && d->error)
        reply_host_err(d->req, steal(&d->error));
    else if (d->req)
        reply_err(d->req, err_new(ERR_INTERNAL, "the job wrote nothing"));
    else if (d->stream && d->error)
        http_stream_cut(d->stream);
    else if (d->stream)
        http_stream_end(d->stream);
    if (!d->stream || !d->error) /* one that is cut tells so by gone */
        uv_close((uv_handle_t *)&d->poll, on_closed);
}

static void end_of_bytes(struct download *d)
{
    d->ended = true;
    uv_poll_stop(&d->poll);
    (void)shutdown(d->fd, SHUT_RDWR); /* closed with the poll: its number may not be another one's before */
    finish(d);
}

static void on_gone(void *owner)
{
    struct download *d = owner;

    d->stream = NULL;
    if (d->ended && d->job_over)
        uv_close((uv_handle_t *)&d->poll, on_closed);
    else if (!d->ended)
        end_of_bytes(d); /* the job notices */
}

static void on_readable(uv_poll_t *poll, int status, int events);

static void on_drained(void *owner)
{
    struct download *d = owner;

    if (!d->ended)
        uv_poll_start(&d->poll, UV_READABLE, on_readable);
}

static bool begin(struct download *d)
{
    const struct http_stream_config config = {
        .content_type = d->content_type, .owner = d, .drained = on_drained, .gone = on_gone};

    if (!d->req)
        return d->stream != NULL;
    d->stream = http_stream_begin(steal(&d->req), &config);
    return d->stream != NULL;
}

static void on_readable(uv_poll_t *poll, int status, int events)
{
    struct download *d = poll->data;
    char block[BLOCK];
    ssize_t n = recv(d->fd, block, sizeof(block), MSG_DONTWAIT);

    (void)status;
    (void)events;
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0 || !begin(d)) {
        end_of_bytes(d);
        return;
    }
    uv_poll_stop(poll); /* until the client has taken it */
    http_stream_write(d->stream, block, (size_t)n);
}

static void on_job(void *owner, struct err *e, json_t *result)
{
    struct download *d = owner;

    json_decref(result);
    d->done(d->owner, e);
    d->job_over = true;
    d->error = e;
    if (e && !d->req)
        log_warning(NULL, "a download was broken off: %s", e->message);
    finish(d);
}

void download_start(struct agent *a, struct http_request *req, const char *content_type, enum job_kind kind,
                    int64_t slot, const void *args, void *owner, void (*done)(void *owner, const struct err *e))
{
    struct worker_io io = {.stream = -1};
    struct download *d;
    int pair[2];

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) {
        struct err *e = err_errno(errno, "socketpair");

        done(owner, e);
        reply_host_err(req, e);
        return;
    }
    d = mem_new(struct download);
    *d = (struct download){.req = req, .content_type = content_type, .fd = pair[0], .owner = owner, .done = done};
    d->poll.data = d;
    if (uv_poll_init(a->loop, &d->poll, d->fd) != 0)
        abort();
    uv_poll_start(&d->poll, UV_READABLE, on_readable);
    io.stream = pair[1];
    agent_stream_job(a, kind, slot, args, &io, d, on_job);
}
