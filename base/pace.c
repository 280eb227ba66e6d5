/* SPDX-License-Identifier: Apache-2.0 */
#include "base/pace.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"

enum { PIECE = 65536 }; /* a write returns when all of it is taken: so often the pace is looked at */

struct err *pace_limits(int fd, int64_t timeout_s)
{
    const struct timeval limit = {.tv_sec = (time_t)MAX(timeout_s, PACE_STALL_S)};
    int flags = fcntl(fd, F_GETFL);

    if (flags < 0 || fcntl(fd, F_SETFL, flags & ~O_NONBLOCK) < 0 ||
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) < 0 ||
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)) < 0)
        return err_errno(errno, "socket");
    return NULL;
}

static int64_t limit_s(const struct pace *p)
{
    return p->limit_s ? p->limit_s : PACE_S;
}

struct err *pace_too_slow(const struct pace *p)
{
    return err_new(ERR_TIMEOUT, "%s is too slow: less than %d MiB in %lld seconds", p->other, PACE_BYTES >> 20,
                   (long long)limit_s(p));
}

int64_t pace_allowed_ms(size_t bytes)
{
    return PACE_GRACE_S * INT64_C(1000) + (int64_t)(bytes / (PACE_BYTES / (PACE_S * 1000)));
}

/* len bytes have passed, which was waited for since then. */
static struct err *passed(struct pace *p, int64_t since_us, size_t len)
{
    p->waited_us += clock_mono_us() - since_us;
    p->moved += (int64_t)len;
    if (p->moved >= PACE_BYTES)
        p->moved = p->waited_us = 0;
    return p->waited_us > limit_s(p) * 1000000 ? pace_too_slow(p) : NULL;
}

static struct err *failed(const struct pace *p, const char *what)
{
    if (errno == EAGAIN || errno == EWOULDBLOCK)
        return err_new(ERR_TIMEOUT, "%s was silent for %d seconds", p->other, PACE_STALL_S);
    if (errno == EPIPE)
        return err_new(ERR_CANCELLED, "%s has left", p->other);
    return err_errno(errno, "%s %s", what, p->other);
}

struct err *pace_read(struct pace *p, void *data, size_t len, size_t *ret)
{
    int64_t since = clock_mono_us();
    ssize_t n;

    do
        n = read(p->fd, data, len);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return failed(p, "receiving from");
    *ret = (size_t)n;
    return passed(p, since, (size_t)n);
}

struct err *pace_write(struct pace *p, const void *data, size_t len)
{
    const char *from = data;
    struct err *e = NULL;

    while (!e && len > 0) {
        int64_t since = clock_mono_us();
        ssize_t n = write(p->fd, from, MIN(len, PIECE)); /* SIGPIPE is ignored by all our programs */

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return failed(p, "sending to");
        from += n;
        len -= (size_t)n;
        e = passed(p, since, (size_t)n);
    }
    return e;
}
