/* SPDX-License-Identifier: Apache-2.0 */
/*
 * MHD asks for the next piece when the socket takes one. Without a piece the connection is suspended until there is
 * one. A suspended connection is not watched by MHD, so the stream looks itself whether the client hangs up.
 */
#include <sys/socket.h>

#include "agent/http/internal.h"
#include "base/mem.h"

enum { BLOCK = 16384 };

struct http_stream {
    struct http_request *req; /* NULL: only the poll is left */
    struct http_stream_config config;
    char *data;
    size_t len, sent, size;
    bool ended;
    uv_poll_t hangup;
};

static void on_hangup_closed(uv_handle_t *h)
{
    struct http_stream *s = h->data;

    free(s->data);
    free(s);
}

static void on_hangup(uv_poll_t *poll, int status, int events)
{
    struct http_stream *s = poll->data;

    (void)status;
    (void)events;
    uv_poll_stop(poll);
    s->ended = true; /* MHD meets the closed socket when it goes on */
    http_send(s->req);
}

static ssize_t next_piece(void *cls, uint64_t pos, char *buf, size_t max)
{
    struct http_stream *s = cls;
    size_t n;

    (void)pos;
    if (s->len == s->sent && !s->ended) {
        s->len = s->sent = 0;
        s->config.drained(s->config.owner);
    }
    n = MIN(s->len - s->sent, max);
    if (n > 0) {
        memcpy(buf, s->data + s->sent, n);
        s->sent += n;
        return (ssize_t)n;
    }
    if (s->ended)
        return MHD_CONTENT_READER_END_OF_STREAM;
    s->req->suspended = true;
    MHD_suspend_connection(s->req->conn);
    return 0;
}

struct http_stream *http_stream_begin(struct http_request *r, const struct http_stream_config *config)
{
    struct connection *c = r->conn ? http_connection_of(r->conn) : NULL;
    struct http_stream *s;

    r->replied = true;
    if (!c) {
        http_request_free(r);
        return NULL;
    }
    s = mem_new(struct http_stream);
    s->req = r;
    s->config = *config;
    s->hangup.data = s;
    if (uv_poll_init(r->server->loop, &s->hangup, c->fd) != 0)
        abort();
    uv_poll_start(&s->hangup, UV_DISCONNECT, on_hangup);
    uv_timer_stop(&c->deadline); /* it lives as long as it likes */
    r->stream = s;
    r->close_after = true; /* nothing else comes on this connection */
    r->status = MHD_HTTP_OK;
    r->response = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, BLOCK, next_piece, s, NULL);
    if (!r->response)
        abort();
    http_common_headers(r, config->content_type);
    http_send(r);
    return s;
}

void http_stream_write(struct http_stream *s, const char *text, size_t len)
{
    if (s->ended)
        return;
    if (s->sent > 0 && s->len + len > s->size) {
        memmove(s->data, s->data + s->sent, s->len - s->sent);
        s->len -= s->sent;
        s->sent = 0;
    }
    if (s->len + len > s->size) {
        s->size = MAX(s->len + len, s->size * 2);
        s->data = mem_grow(s->data, s->size, 1);
    }
    memcpy(s->data + s->len, text, len);
    s->len += len;
    http_send(s->req);
}

size_t http_stream_waiting(const struct http_stream *s)
{
    return s->len - s->sent;
}

void http_stream_end(struct http_stream *s)
{
    s->ended = true;
    s->config.gone = NULL;
    http_send(s->req);
}

void http_stream_cut(struct http_stream *s)
{
    (void)shutdown(http_connection_of(s->req->conn)->fd, SHUT_RDWR);
}

void http_stream_gone(struct http_stream *s)
{
    if (s->config.gone)
        s->config.gone(s->config.owner);
    s->req->stream = NULL;
    s->req = NULL;
    uv_close((uv_handle_t *)&s->hangup, on_hangup_closed);
}
