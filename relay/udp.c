/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/udp.h"

#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"

enum { TICK_MS = 1000, TELL_MS = 5000, BATCH = 64 };

static void on_poll_closed(uv_handle_t *h)
{
    free(h);
}

uv_poll_t *udp_watch(struct udp *u, int fd, uv_poll_cb cb, void *owner)
{
    uv_poll_t *poll = mem_new(uv_poll_t);

    if (uv_poll_init(&u->relay->loop, poll, fd) != 0)
        abort();
    poll->data = owner;
    uv_poll_start(poll, UV_READABLE, cb);
    return poll;
}

void udp_unwatch(uv_poll_t **poll, int *fd)
{
    if (*poll) {
        (*poll)->data = NULL;
        uv_close((uv_handle_t *)*poll, on_poll_closed);
    }
    if (*fd >= 0)
        close(*fd);
    *poll = NULL;
    *fd = -1;
}

/* --- from the container */

void udp_outgoing(struct udp *u, const struct sockaddr_storage *client, const struct sockaddr_storage *target,
                  const uint8_t *data, size_t len)
{
    int64_t now = clock_mono_ms();
    struct association *a = NULL;
    struct flow *f = NULL;

    if (address_is_client(u->relay, client) && !address_is_own(u->relay, target))
        a = association_get(u, client, now);
    if (a)
        f = flow_get(a, target);
    if (!f) {
        u->dropped++;
        return;
    }
    a->used = f->used = now;
    association_send(a, f, data, len);
}

/* To whom a datagram was sent that a rule has handed over. */
static bool read_target(struct msghdr *m, struct sockaddr_storage *ret)
{
    for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
        bool v4 = c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_ORIGDSTADDR;

        if (!v4 && !(c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_ORIGDSTADDR))
            continue;
        memset(ret, 0, sizeof(*ret));
        memcpy(ret, CMSG_DATA(c), v4 ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6));
        return true;
    }
    return false;
}

static void on_readable(uv_poll_t *poll, int status, int events_)
{
    struct udp *u = poll->data;
    int fd = u->relay->datagram_fd[poll - u->polls];

    (void)status;
    (void)events_;
    for (int i = 0; i < BATCH; i++) {
        struct sockaddr_storage client = {0}, target;
        char control[256];
        struct iovec iov = {.iov_base = u->buf, .iov_len = sizeof(u->buf)};
        struct msghdr m = {.msg_name = &client,
                           .msg_namelen = sizeof(client),
                           .msg_iov = &iov,
                           .msg_iovlen = 1,
                           .msg_control = control,
                           .msg_controllen = sizeof(control)};
        ssize_t n = recvmsg(fd, &m, MSG_DONTWAIT);

        if (n < 0)
            return;
        if (read_target(&m, &target))
            udp_outgoing(u, &client, &target, u->buf, (size_t)n);
    }
}

/* --- time */

static void on_tick(uv_timer_t *timer)
{
    struct udp *u = timer->data;
    int64_t now = clock_mono_ms();
    struct association *a, *next;

    for (a = u->associations; a; a = next) {
        next = a->next;
        association_expire(a, now);
    }
    if (u->dropped == u->told_dropped || now - u->told_at < TELL_MS)
        return;
    u->told_dropped = u->dropped;
    u->told_at = now;
    control_tell(u->relay);
}

json_t *udp_status(const struct relay *r)
{
    const struct udp *u = r->udp;

    if (!u)
        return json_null();
    return json_pack("{s:o, s:I, s:I}", "carried", u->known ? json_boolean(u->carried) : json_null(), "associations",
                     (json_int_t)u->association_count, "dropped", (json_int_t)u->dropped);
}

struct err *udp_start(struct relay *r)
{
    struct udp *u;

    if (r->broker_fd < 0)
        return NULL;
    u = mem_new(struct udp);
    u->relay = r;
    r->udp = u;
    for (size_t i = 0; i < ARRAY_LEN(u->polls); i++) {
        if (r->datagram_fd[i] < 0)
            continue;
        u->polls[i].data = u;
        if (uv_poll_init(&r->loop, &u->polls[i], r->datagram_fd[i]) != 0)
            return err_new(ERR_HOST, "cannot wait for datagrams");
        uv_poll_start(&u->polls[i], UV_READABLE, on_readable);
    }
    u->broker.data = u;
    if (uv_poll_init(&r->loop, &u->broker, r->broker_fd) != 0)
        return err_new(ERR_HOST, "cannot wait for the broker");
    uv_poll_start(&u->broker, UV_READABLE | UV_DISCONNECT, flow_on_broker);
    uv_timer_init(&r->loop, &u->timer);
    u->timer.data = u;
    uv_timer_start(&u->timer, on_tick, TICK_MS, TICK_MS);
    return NULL;
}
