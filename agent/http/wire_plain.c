/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/http/wire_plain.h"

#include <errno.h>
#include <sys/socket.h>

static ssize_t outcome(ssize_t n)
{
    if (n > 0)
        return n;
    return n < 0 && (errno == EAGAIN || errno == EINTR) ? WIRE_AGAIN : WIRE_END;
}

static ssize_t plain_read(const struct wire *w, void *buf, size_t len, bool *want_write)
{
    (void)want_write;
    return outcome(recv(w->fd, buf, len, 0));
}

static ssize_t plain_write(const struct wire *w, const void *buf, size_t len, bool *want_write)
{
    (void)want_write;
    return outcome(send(w->fd, buf, len, MSG_NOSIGNAL));
}

static void plain_finish(const struct wire *w)
{
    (void)shutdown(w->fd, SHUT_WR);
}

static void plain_free(const struct wire *w)
{
    (void)w;
}

struct wire wire_plain(int fd)
{
    static const struct wire_ops ops = {plain_read, plain_write, plain_finish, plain_free};

    return (struct wire){.ops = &ops, .fd = fd};
}
