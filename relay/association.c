/* SPDX-License-Identifier: Apache-2.0 */
/* One source of the container, and what the proxy does for it. */
#include <sys/socket.h>

#include "base/clock.h"
#include "base/fd.h"
#include "egress/socks5_udp.h"
#include "relay/udp.h"

enum {
    IDLE_MS = 60000,    /* of a flow */
    SPARE_MS = 5000,    /* an association that was idle that long makes room for another one */
    DOWN_MS = 1000,     /* until the proxy is asked again when it failed, */
    REFUSED_MS = 30000, /* and when it refused */
    BATCH = 64,
};

static void drop_pending(struct association *a)
{
    for (size_t i = 0; i < a->pending_count; i++)
        free(a->pending[i]);
    a->pending_count = a->pending_bytes = 0;
}

static void association_close(struct association *a)
{
    struct udp *u = a->udp;
    struct association **at = &u->associations;

    while (*at != a)
        at = &(*at)->next;
    *at = a->next;
    u->association_count--;
    while (a->flows)
        flow_close(a->flows);
    u->dropped += a->pending_count;
    drop_pending(a);
    upstream_close(a->control);
    udp_unwatch(&a->poll, &a->fd);
    free(a);
}

static void learn(struct udp *u, bool carried)
{
    bool news = !u->known || u->carried != carried;

    u->known = true;
    u->carried = carried;
    if (news)
        control_tell(u->relay);
}

static void send_on(struct association *a, const struct sockaddr_storage *target, const uint8_t *data, size_t len)
{
    uint8_t head[SOCKS5_UDP_HEAD_MAX];
    struct iovec parts[] = {
        {.iov_base = head, .iov_len = socks5_udp_head((const struct sockaddr *)target, head)},
        {.iov_base = (void *)(uintptr_t)data, .iov_len = len},
    };
    const struct msghdr m = {.msg_iov = parts, .msg_iovlen = ARRAY_LEN(parts)};

    if (sendmsg(a->fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
        a->udp->dropped++;
}

void association_flush(struct association *a)
{
    size_t kept = 0;

    for (size_t i = 0; i < a->pending_count && a->fd >= 0; i++) {
        struct pending *p = a->pending[i];
        const struct flow *f = flow_find(a, &p->target);

        if (f && f->fd < 0) {
            a->pending[kept++] = p;
            continue;
        }
        if (f)
            send_on(a, &p->target, p->data, p->len);
        else
            a->udp->dropped++;
        a->pending_bytes -= p->len;
        free(p);
    }
    if (a->fd >= 0)
        a->pending_count = kept;
}

static bool keep(struct association *a, const struct sockaddr_storage *target, const uint8_t *data, size_t len)
{
    struct pending *p;

    if (a->pending_count == PENDING_MAX || a->pending_bytes + len > PENDING_BYTES)
        return false;
    p = mem_alloc(1, sizeof(*p) + len);
    p->target = *target;
    p->len = len;
    memcpy(p->data, data, len);
    a->pending[a->pending_count++] = p;
    a->pending_bytes += len;
    return true;
}

void association_send(struct association *a, const struct flow *f, const uint8_t *data, size_t len)
{
    if (a->fd >= 0 && f->fd >= 0)
        send_on(a, &f->target, data, len);
    else if (!keep(a, &f->target, data, len))
        a->udp->dropped++;
}

/* From the proxy: to the source, if it has sent to whom this is from. */
static void on_answer(uv_poll_t *poll, int status, int events)
{
    struct association *a = poll->data;
    struct udp *u = a->udp;

    (void)status;
    (void)events;
    for (int i = 0; i < BATCH; i++) {
        ssize_t n = recv(a->fd, u->buf, sizeof(u->buf), MSG_DONTWAIT);
        struct sockaddr_storage from;
        struct flow *f;
        size_t head;

        if (n < 0)
            return;
        head = socks5_udp_parse(u->buf, (size_t)n, &from);
        f = head ? flow_find(a, &from) : NULL;
        if (!f || f->fd < 0 || send(f->fd, u->buf + head, (size_t)n - head, MSG_DONTWAIT | MSG_NOSIGNAL) < 0) {
            u->dropped++;
            continue;
        }
        a->used = f->used = clock_mono_ms();
    }
}

/* A socket to where the proxy wants datagrams. */
static int connect_to(const struct sockaddr_storage *bound)
{
    autofd int fd = socket(bound->ss_family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0 || connect(fd, (const struct sockaddr *)bound, address_len(bound)) < 0)
        return -1;
    return fd_steal(&fd);
}

static void on_opened(void *owner)
{
    struct association *a = owner;
    struct udp *u = a->udp;
    struct sockaddr_storage bound;

    if (upstream_bound(a->control, &bound))
        a->fd = connect_to(&bound);
    learn(u, a->fd >= 0);
    if (a->fd < 0) {
        u->not_before = clock_mono_ms() + REFUSED_MS;
        association_close(a);
        return;
    }
    a->poll = udp_watch(u, a->fd, on_answer, a);
    association_flush(a);
}

static void on_failed(void *owner, enum upstream_failure failure, const char *problem)
{
    struct association *a = owner;
    struct udp *u = a->udp;

    (void)problem;
    u->not_before = clock_mono_ms() + (failure == UPSTREAM_REFUSED ? REFUSED_MS : DOWN_MS);
    if (failure == UPSTREAM_REFUSED)
        learn(u, false);
    association_close(a);
}

/* Nothing is said on this connection any more; its end is that of the association. */
static void on_data(void *owner, const uint8_t *data, size_t len)
{
    struct association *a = owner;

    (void)data;
    (void)len;
    upstream_resume(a->control);
}

static void on_ended(void *owner, bool broken)
{
    (void)broken;
    association_close(owner);
}

static const struct upstream_events events = {
    .opened = on_opened, .failed = on_failed, .data = on_data, .ended = on_ended};

static bool make_room(struct udp *u, int64_t now)
{
    struct association *oldest = u->associations;

    if (u->association_count < RELAY_ASSOCIATIONS_MAX)
        return true;
    for (struct association *a = u->associations; a; a = a->next)
        if (a->used < oldest->used)
            oldest = a;
    if (now - oldest->used < SPARE_MS)
        return false;
    association_close(oldest);
    return true;
}

struct association *association_get(struct udp *u, const struct sockaddr_storage *client, int64_t now)
{
    struct association *a = u->associations;

    while (a && !address_same(&a->client, client))
        a = a->next;
    if (a || now < u->not_before || !make_room(u, now))
        return a;
    a = mem_new(struct association);
    *a = (struct association){.next = u->associations, .udp = u, .client = *client, .fd = -1};
    u->associations = a;
    u->association_count++;
    a->control = upstream_open(u->relay, (const struct sockaddr *)client, HANDSHAKE_ASSOCIATE, &events, a);
    return a;
}

void association_expire(struct association *a, int64_t now)
{
    struct flow *f, *next;

    for (f = a->flows; f; f = next) {
        next = f->next;
        if (now - f->used >= IDLE_MS)
            flow_close(f);
    }
    if (!a->flows)
        association_close(a);
}
