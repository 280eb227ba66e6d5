/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/http/acceptor.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"

/* Connections that are taken before the loop does something else; how long none is when there is no descriptor. */
enum { TURNS = 32, PAUSE_MS = 100, TELL_MS = 10000 };

static void on_accept(uv_poll_t *poll, int status, int events);

static void on_pause_over(uv_timer_t *timer)
{
    struct acceptor *a = timer->data;

    uv_poll_start(&a->poll, UV_READABLE, on_accept);
}

/* A listening socket stays readable, and without a pause the loop would do nothing else. */
static void be_out_of(struct acceptor *a, int errnum)
{
    uint64_t now = uv_now(a->poll.loop);

    if (a->spare(a->owner))
        return;
    if (a->told_ms == 0 || now - a->told_ms >= TELL_MS)
        log_warning(NULL, "connections cannot be accepted: %s; each is tried again after %d ms",
                    strerrordesc_np(errnum), PAUSE_MS);
    a->told_ms = now;
    uv_poll_stop(&a->poll);
    uv_timer_start(&a->pause, on_pause_over, PAUSE_MS, 0);
}

static void on_accept(uv_poll_t *poll, int status, int events)
{
    struct acceptor *a = poll->data;

    (void)status;
    (void)events;
    for (int i = 0; i < TURNS; i++) {
        struct sockaddr_storage from = {0};
        socklen_t len = sizeof(from);
        int fd = accept4(a->fd, (struct sockaddr *)&from, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);

        if (fd >= 0) {
            a->accepted(a->owner, fd, &from);
        } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
            be_out_of(a, errno);
            return;
        } else if (errno != ECONNABORTED && errno != EINTR) {
            return;
        }
    }
}

void acceptor_start(struct acceptor *a, uv_loop_t *loop, int fd)
{
    a->fd = fd;
    a->open_handles = 2;
    uv_timer_init(loop, &a->pause);
    if (uv_poll_init(loop, &a->poll, fd) != 0)
        abort();
    a->poll.data = a->pause.data = a;
    uv_poll_start(&a->poll, UV_READABLE, on_accept);
}

static void on_handle_closed(uv_handle_t *h)
{
    struct acceptor *a = h->data;

    if (--a->open_handles > 0)
        return;
    close(a->fd);
    a->closed(a->close_owner);
}

void acceptor_close(struct acceptor *a, void *owner, void (*closed)(void *owner))
{
    a->close_owner = owner;
    a->closed = closed;
    uv_close((uv_handle_t *)&a->poll, on_handle_closed);
    uv_close((uv_handle_t *)&a->pause, on_handle_closed);
}
