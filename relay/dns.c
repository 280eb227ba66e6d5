/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DNS over UDP from the container becomes DNS over TCP through the proxy: one connection at a time, all queries in it
 * one after the other, each with an id of ours. A server that fails is followed by the next one; when all have, the
 * container gets SERVFAIL.
 */
#include "egress/dns.h"

#include <errno.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "relay/upstream.h"

enum { ANSWER_MS = 6000, TICK_MS = 500, BATCH = 64 };

struct query {
    uint8_t *message; /* as it came, with two bytes for its length before it; NULL: the place is free */
    size_t len;
    uint16_t id; /* ours; the lower byte is the place */
    bool sent;
    size_t tries;
    int64_t since;
    int fd; /* where the answer goes out, from whom to whom */
    struct sockaddr_storage from;
    struct in_addr asked4;
    struct in6_addr asked6;
};

struct dns {
    struct relay *relay;
    uv_poll_t polls[2];
    uv_timer_t timer;
    struct query queries[RELAY_QUERIES_MAX];
    uint16_t round;
    struct upstream *upstream;
    bool opened, writing;
    size_t server;
    uint8_t in[2 + DNS_MESSAGE_MAX]; /* of the answer that is coming */
    size_t in_len;
};

static void pump(struct dns *d);

/* --- to the container */

static void send_answer(const struct query *q, const uint8_t *answer, size_t len)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(struct in6_pktinfo))];
    } control = {0};
    struct iovec iov = {.iov_base = (void *)(uintptr_t)answer, .iov_len = len};
    bool v4 = q->from.ss_family == AF_INET;
    struct msghdr m = {
        .msg_name = (void *)(uintptr_t)&q->from,
        .msg_namelen = v4 ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6),
        .msg_iov = &iov,
        .msg_iovlen = 1,
        .msg_control = control.bytes,
        .msg_controllen = v4 ? CMSG_SPACE(sizeof(struct in_pktinfo)) : CMSG_SPACE(sizeof(struct in6_pktinfo)),
    };
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    const struct in_pktinfo info4 = {.ipi_spec_dst = q->asked4};
    const struct in6_pktinfo info6 = {.ipi6_addr = q->asked6};

    /* From the address that was asked, which is nobody's here: the socket is transparent. */
    c->cmsg_level = v4 ? IPPROTO_IP : IPPROTO_IPV6;
    c->cmsg_type = v4 ? IP_PKTINFO : IPV6_PKTINFO;
    c->cmsg_len = v4 ? CMSG_LEN(sizeof(info4)) : CMSG_LEN(sizeof(info6));
    memcpy(CMSG_DATA(c), v4 ? (const void *)&info4 : &info6, v4 ? sizeof(info4) : sizeof(info6));
    (void)sendmsg(q->fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL); /* what is lost is asked for again */
}

static void drop(struct query *q)
{
    free(q->message);
    *q = (struct query){0};
}

static void answer_failure(struct query *q)
{
    uint8_t failure[DNS_QUERY_MAX];

    send_answer(q, failure, dns_failure(q->message + 2, q->len, failure));
    drop(q);
}

static void answer(struct query *q, uint8_t *message, size_t len)
{
    uint8_t cut[DNS_QUERY_MAX];

    dns_set_id(message, dns_id(q->message + 2));
    if (len <= dns_answer_max(q->message + 2, q->len))
        send_answer(q, message, len);
    else
        send_answer(q, cut, dns_truncated(q->message + 2, q->len, cut));
    drop(q);
}

/* --- through the proxy */

/* What was asked of a connection that is gone is asked once more of each server, then it has failed. */
static void lose_upstream(struct dns *d, bool next_server)
{
    upstream_close(d->upstream);
    d->upstream = NULL;
    d->opened = d->writing = false;
    d->in_len = 0;
    if (next_server)
        d->server = (d->server + 1) % d->relay->server_count;
    for (size_t i = 0; i < ARRAY_LEN(d->queries); i++) {
        struct query *q = &d->queries[i];

        if (!q->message)
            continue;
        q->sent = false;
        if (++q->tries > d->relay->server_count)
            answer_failure(q);
    }
    pump(d);
}

static void on_opened(void *owner)
{
    struct dns *d = owner;

    d->opened = true;
    pump(d);
}

static void on_failed(void *owner, enum upstream_failure failure, const char *problem)
{
    (void)failure;
    (void)problem;
    lose_upstream(owner, true);
}

static void on_ended(void *owner, bool broken)
{
    (void)broken;
    lose_upstream(owner, false); /* a server closes what was idle */
}

static void on_written(void *owner)
{
    struct dns *d = owner;

    d->writing = false;
    pump(d);
}

/* Whole messages, each behind its length. */
static void take_answers(struct dns *d)
{
    size_t at = 0;

    while (d->in_len - at >= 2) {
        size_t len = (size_t)d->in[at] << 8 | d->in[at + 1];
        uint8_t *message = d->in + at + 2;

        if (d->in_len - at - 2 < len)
            break;
        if (len >= 12) {
            struct query *q = &d->queries[dns_id(message) % RELAY_QUERIES_MAX];

            if (q->message && q->sent && q->id == dns_id(message))
                answer(q, message, len);
        }
        at += 2 + len;
    }
    memmove(d->in, d->in + at, d->in_len - at);
    d->in_len -= at;
}

static void on_data(void *owner, const uint8_t *data, size_t len)
{
    struct dns *d = owner;

    while (len > 0) {
        size_t n = MIN(len, sizeof(d->in) - d->in_len);

        memcpy(d->in + d->in_len, data, n);
        d->in_len += n;
        data += n;
        len -= n;
        take_answers(d);
    }
    upstream_resume(d->upstream);
}

static const struct upstream_events events = {
    .opened = on_opened, .failed = on_failed, .data = on_data, .written = on_written, .ended = on_ended};

static struct query *next_unsent(struct dns *d)
{
    struct query *oldest = NULL;

    for (size_t i = 0; i < ARRAY_LEN(d->queries); i++) {
        struct query *q = &d->queries[i];

        if (q->message && !q->sent && (!oldest || q->since < oldest->since))
            oldest = q;
    }
    return oldest;
}

static void pump(struct dns *d)
{
    struct query *q = next_unsent(d);
    uint8_t out[2 + DNS_QUERY_MAX];

    if (!q)
        return;
    if (!d->upstream)
        d->upstream = upstream_open(d->relay, (const struct sockaddr *)&d->relay->servers[d->server], HANDSHAKE_CONNECT,
                                    &events, d);
    if (!d->opened || d->writing)
        return;
    d->writing = q->sent = true;
    memcpy(out, q->message, q->len + 2);
    dns_set_id(out + 2, q->id);
    upstream_write(d->upstream, out, q->len + 2);
}

/* --- from the container */

static bool read_asked(struct msghdr *m, struct query *q)
{
    for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
        struct in6_pktinfo info6;
        struct in_pktinfo info4;

        if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO) {
            memcpy(&info4, CMSG_DATA(c), sizeof(info4));
            q->asked4 = info4.ipi_addr;
            return true;
        }
        if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_PKTINFO) {
            memcpy(&info6, CMSG_DATA(c), sizeof(info6));
            q->asked6 = info6.ipi6_addr;
            return true;
        }
    }
    return false;
}

static void accept_query(struct dns *d, struct query *q, const uint8_t *message, size_t len)
{
    size_t place = 0;

    while (place < RELAY_QUERIES_MAX && d->queries[place].message)
        place++;
    if (place == RELAY_QUERIES_MAX)
        return; /* the resolver asks again */
    q->message = mem_alloc(1, len + 2);
    q->message[0] = (uint8_t)(len >> 8);
    q->message[1] = (uint8_t)len;
    memcpy(q->message + 2, message, len);
    q->len = len;
    q->id = (uint16_t)((size_t)d->round++ << 8 | place);
    q->since = clock_mono_ms();
    d->queries[place] = *q;
}

static void on_readable(uv_poll_t *poll, int status, int events_)
{
    struct relay *r = poll->data;
    struct dns *d = r->dns;
    int fd = r->udp_fd[poll - d->polls];

    (void)status;
    (void)events_;
    for (int i = 0; i < BATCH; i++) {
        uint8_t message[DNS_QUERY_MAX];
        char control[256];
        struct query q = {.fd = fd};
        struct iovec iov = {.iov_base = message, .iov_len = sizeof(message)};
        struct msghdr m = {.msg_name = &q.from,
                           .msg_namelen = sizeof(q.from),
                           .msg_iov = &iov,
                           .msg_iovlen = 1,
                           .msg_control = control,
                           .msg_controllen = sizeof(control)};
        ssize_t n = recvmsg(fd, &m, MSG_DONTWAIT);

        if (n < 0)
            break;
        if (!(m.msg_flags & MSG_TRUNC) && address_is_client(d->relay, &q.from) && read_asked(&m, &q) &&
            dns_is_query(message, (size_t)n))
            accept_query(d, &q, message, (size_t)n);
    }
    pump(d);
}

static void on_tick(uv_timer_t *timer)
{
    struct dns *d = ((struct relay *)timer->data)->dns;
    int64_t now = clock_mono_ms();
    bool stuck = false;

    for (size_t i = 0; i < ARRAY_LEN(d->queries); i++) {
        struct query *q = &d->queries[i];

        if (!q->message || now - q->since < ANSWER_MS)
            continue;
        stuck = stuck || q->sent;
        answer_failure(q);
    }
    if (stuck)
        lose_upstream(d, true);
}

struct err *dns_start(struct relay *r)
{
    struct dns *d = mem_new(struct dns);

    d->relay = r;
    r->dns = d;
    for (size_t i = 0; i < ARRAY_LEN(d->polls); i++) {
        if (r->udp_fd[i] < 0)
            continue;
        d->polls[i].data = r;
        if (uv_poll_init(&r->loop, &d->polls[i], r->udp_fd[i]) != 0)
            return err_new(ERR_HOST, "cannot wait for DNS");
        uv_poll_start(&d->polls[i], UV_READABLE, on_readable);
    }
    uv_timer_init(&r->loop, &d->timer);
    d->timer.data = r;
    uv_timer_start(&d->timer, on_tick, TICK_MS, TICK_MS);
    return NULL;
}
