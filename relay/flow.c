/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "relay/broker.h"
#include "relay/udp.h"

enum { BATCH = 64 };

struct flow *flow_find(const struct association *a, const struct sockaddr_storage *target)
{
    struct flow *f = a->flows;

    while (f && !address_same(&f->target, target))
        f = f->next;
    return f;
}

void flow_close(struct flow *f)
{
    struct flow **at = &f->association->flows;

    while (*at != f)
        at = &(*at)->next;
    *at = f->next;
    f->association->udp->flow_count--;
    udp_unwatch(&f->poll, &f->fd);
    free(f);
}

struct flow *flow_get(struct association *a, const struct sockaddr_storage *target)
{
    struct udp *u = a->udp;
    struct flow *f = flow_find(a, target);
    struct broker_request q = {.id = u->last_id + 1, .target = *target, .client = a->client};

    if (f)
        return f;
    if (u->flow_count >= RELAY_FLOWS_MAX || send(u->relay->broker_fd, &q, sizeof(q), MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
        return NULL;
    f = mem_new(struct flow);
    *f = (struct flow){.next = a->flows, .association = a, .target = *target, .id = ++u->last_id, .fd = -1};
    a->flows = f;
    u->flow_count++;
    return f;
}

/* What the source sent on to the same target. */
static void on_readable(uv_poll_t *poll, int status, int events)
{
    struct flow *f = poll->data;
    struct udp *u = f->association->udp;
    const struct sockaddr_storage target = f->target;

    (void)status;
    (void)events;
    for (int i = 0; i < BATCH; i++) {
        struct sockaddr_storage client = {0};
        socklen_t size = sizeof(client);
        ssize_t n = recvfrom(f->fd, u->buf, sizeof(u->buf), MSG_DONTWAIT, (struct sockaddr *)&client, &size);

        if (n < 0)
            return;
        udp_outgoing(u, &client, &target, u->buf, (size_t)n);
        if (poll->data != f)
            return; /* it was closed for want of room */
    }
}

static struct flow *by_id(const struct udp *u, uint32_t id)
{
    for (struct association *a = u->associations; a; a = a->next)
        for (struct flow *f = a->flows; f; f = f->next)
            if (f->id == id)
                return f;
    return NULL;
}

static void take(struct udp *u, const struct broker_answer *a, int fd)
{
    struct flow *f = by_id(u, a->id);

    if (f && fd >= 0) {
        f->fd = fd;
        f->poll = udp_watch(u, fd, on_readable, f);
        association_flush(f->association);
        return;
    }
    if (fd >= 0)
        close(fd);
    if (f) { /* an address that there can be no socket for */
        struct association *of = f->association;

        flow_close(f);
        association_flush(of);
    }
}

void flow_on_broker(uv_poll_t *poll, int status, int events)
{
    struct udp *u = poll->data;

    (void)status;
    (void)events;
    for (;;) {
        union {
            struct cmsghdr align;
            char bytes[CMSG_SPACE(sizeof(int))];
        } control;
        struct broker_answer a;
        struct iovec iov = {.iov_base = &a, .iov_len = sizeof(a)};
        struct msghdr m = {
            .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof(control.bytes)};
        ssize_t n = recvmsg(u->relay->broker_fd, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
        struct cmsghdr *c = n > 0 ? CMSG_FIRSTHDR(&m) : NULL;
        int fd = -1;

        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (n != sizeof(a)) {
            log_warning(NULL, "the broker of the relay has ended");
            _exit(1); /* noded starts both again */
        }
        if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS)
            memcpy(&fd, CMSG_DATA(c), sizeof(fd));
        take(u, &a, fd);
    }
}
