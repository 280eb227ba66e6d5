/* SPDX-License-Identifier: Apache-2.0 */
/* The streams to noded: the first one ends with the noded that started us, the next one connects to the socket. */
#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/frame.h"
#include "relay/relay.h"

enum { BACKLOG = 8, COMMAND_MAX = 1024 };

struct stream {
    struct stream *next;
    struct relay *relay;
    uv_pipe_t pipe;
    struct frame_reader reader;
    char buf[COMMAND_MAX];
    bool closing;
};

struct control {
    uv_pipe_t listener;
    struct stream *streams;
    size_t count;
};

static void on_closed(uv_handle_t *h)
{
    struct stream *s = h->data;
    struct stream **at = &s->relay->control->streams;

    while (*at != s)
        at = &(*at)->next;
    *at = s->next;
    s->relay->control->count--;
    frame_reader_done(&s->reader);
    free(s);
}

static void stream_close(struct stream *s)
{
    if (s->closing)
        return;
    s->closing = true;
    uv_close((uv_handle_t *)&s->pipe, on_closed);
}

/* A listener who does not listen is cut off: nothing is kept for him. */
static void tell(struct stream *s, const json_t *j)
{
    autofree char *text = json_dumps(j, JSON_COMPACT);
    size_t len = strlen(text);
    char head[4];
    uv_buf_t bufs[2] = {uv_buf_init(head, sizeof(head)), uv_buf_init(text, (unsigned)len)};

    for (int i = 0; i < 4; i++)
        head[i] = (char)(len >> (8 * i));
    if (!s->closing && uv_try_write((uv_stream_t *)&s->pipe, bufs, 2) != (int)(len + sizeof(head)))
        stream_close(s);
}

static void obey(struct stream *s, const json_t *command)
{
    const struct relay *r = s->relay;

    if (json_is_true(json_object_get(command, "quit"))) {
        /* Before the stream: who sees its end may start the next relay. The kernel closes the rest. */
        for (size_t i = 0; i < ARRAY_LEN(r->tcp_fd); i++) {
            close(r->tcp_fd[i]);
            close(r->udp_fd[i]);
            close(r->datagram_fd[i]);
        }
        _exit(0);
    }
    if (json_is_true(json_object_get(command, "probe")))
        probe_now(s->relay);
}

static void on_alloc(uv_handle_t *h, size_t suggested, uv_buf_t *buf)
{
    struct stream *s = h->data;

    (void)suggested;
    *buf = uv_buf_init(s->buf, sizeof(s->buf));
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    struct stream *s = stream->data;
    struct err *e = NULL;

    if (n > 0)
        e = frame_reader_feed(&s->reader, buf->base, (size_t)n);
    while (n > 0 && !e && !s->closing) {
        json_t *command = NULL;

        e = frame_reader_next(&s->reader, &command);
        if (!command)
            break;
        obey(s, command);
        json_decref(command);
    }
    if (n < 0 || e)
        stream_close(s);
    err_free(e);
}

static struct stream *stream_new(struct relay *r)
{
    struct stream *s = mem_new(struct stream);

    s->relay = r;
    s->next = r->control->streams;
    r->control->streams = s;
    r->control->count++;
    uv_pipe_init(&r->loop, &s->pipe, 0);
    s->pipe.data = s;
    return s;
}

static void begin(struct stream *s)
{
    autojson hello =
        json_pack("{s:{s:s, s:i}}", "hello", "generation", s->relay->settings.generation, "pid", (int)getpid());
    autojson status = probe_status(s->relay);

    uv_read_start((uv_stream_t *)&s->pipe, on_alloc, on_read);
    tell(s, hello);
    if (status)
        tell(s, status);
}

static bool is_root(const struct stream *s)
{
    struct ucred cred = {0};
    socklen_t len = sizeof(cred);
    uv_os_fd_t fd;

    return uv_fileno((const uv_handle_t *)&s->pipe, &fd) == 0 &&
           getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) == 0 && cred.uid == 0;
}

static void on_connection(uv_stream_t *listener, int status)
{
    struct relay *r = listener->data;
    struct stream *s;

    if (status < 0)
        return;
    s = stream_new(r);
    if (uv_accept(listener, (uv_stream_t *)&s->pipe) != 0 || r->control->count > RELAY_CONTROLS_MAX || !is_root(s))
        stream_close(s);
    else
        begin(s);
}

void control_tell(struct relay *r)
{
    autojson status = probe_status(r);

    for (struct stream *s = r->control->streams; s; s = s->next)
        tell(s, status);
}

struct err *control_start(struct relay *r, int first_fd)
{
    struct stream *first;
    int rc;

    r->control = mem_new(struct control);
    uv_pipe_init(&r->loop, &r->control->listener, 0);
    r->control->listener.data = r;
    rc = uv_pipe_open(&r->control->listener, r->control_fd);
    if (rc == 0)
        rc = uv_listen((uv_stream_t *)&r->control->listener, BACKLOG, on_connection);
    if (rc != 0)
        return err_new(ERR_HOST, "the control socket: %s", uv_strerror(rc));
    first = stream_new(r);
    rc = uv_pipe_open(&first->pipe, first_fd);
    if (rc != 0)
        return err_new(ERR_HOST, "the first control stream: %s", uv_strerror(rc));
    begin(first);
    return NULL;
}
