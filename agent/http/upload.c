/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From MHD's buffer into a socket. What the socket does not take stays in MHD's buffer and the connection is suspended,
 * so the client is told by TCP to wait. MHD sends no answer before the body is through: what nobody wants is dropped.
 */
#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/http/internal.h"
#include "base/mem.h"

struct http_upload {
    struct http_request *req; /* NULL: only the poll is left */
    int fd;                   /* -1: not said yet, or not any more */
    bool broken, ended;
    uv_poll_t writable;
    bool polled; /* writable is a handle */
};

struct http_upload *http_upload_new(struct http_request *r)
{
    struct http_upload *u = mem_new(struct http_upload);

    u->req = r;
    u->fd = -1;
    return u;
}

static void on_poll_closed(uv_handle_t *h)
{
    struct http_upload *u = h->data;

    close(u->fd);
    free(u);
}

void http_upload_close(struct http_upload *u)
{
    if (!u)
        return;
    u->req = NULL;
    if (u->polled)
        uv_close((uv_handle_t *)&u->writable, on_poll_closed);
    else
        free(u);
}

static void on_writable(uv_poll_t *poll, int status, int events)
{
    struct http_upload *u = poll->data;

    (void)events;
    if (status < 0)
        u->broken = true;
    uv_poll_stop(poll);
    http_send(u->req);
}

void http_upload_to(struct http_request *r, int fd)
{
    struct http_upload *u = r->upload;

    if (!u || u->polled) {
        close(fd);
        return;
    }
    u->fd = fd;
    u->polled = true;
    u->writable.data = u;
    if (uv_poll_init(r->server->loop, &u->writable, fd) != 0)
        abort();
    if (u->ended)
        (void)shutdown(fd, SHUT_WR); /* it was over before anybody wanted it */
    else
        http_send(r);
}

bool http_upload_take(struct http_upload *u, const char *data, size_t *len)
{
    if (*len == 0) {
        if (u->polled && !u->ended)
            (void)shutdown(u->fd, SHUT_WR);
        u->ended = true;
        return true;
    }
    while (*len > 0 && !u->broken && !u->req->replied) {
        ssize_t n = u->fd >= 0 ? send(u->fd, data, *len, MSG_NOSIGNAL | MSG_DONTWAIT) : 0;

        if (n > 0) {
            data += n;
            *len -= (size_t)n;
        } else if (n == 0) {
            return false;
        } else if (errno == EAGAIN) {
            uv_poll_start(&u->writable, UV_WRITABLE, on_writable);
            return false;
        } else if (errno != EINTR) {
            u->broken = true;
        }
    }
    *len = 0;
    return true;
}
