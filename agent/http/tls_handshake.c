/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/http/tls_handshake.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <openssl/err.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "agent/http/tls_context.h"
#include "agent/http/tls_wire.h"
#include "base/log.h"

enum {
    SLOTS_MAX = 512,
    SOURCE_MAX = 128,
    HELLO_MS = 3000,      /* for the ClientHello */
    HANDSHAKE_MS = 10000, /* for all of it */
    LINGER_MS = 1000,     /* a refused client may read the alert for so long */
    SWEEP_MS = 250,
    TELL_MS = 10000,
    RECORD_HEAD = 5,
    RECORD_MAX = 16384 + 256
};

/* How far a connection is: the least is the first to go. */
enum progress { REFUSED, HELLO, KEYS };

struct handshake_source {
    struct handshake_source *next;
    struct in6_addr address; /* IPv4 as ::ffff:a.b.c.d, IPv6 without its last 64 bits */
    size_t count;
};

struct handshake {
    struct handshake_pool *pool;
    struct handshake *prev, *next;
    struct handshake_source *source;
    struct sockaddr_storage from;
    enum progress progress;
    uint64_t begun_ms, refused_ms;
    struct tls_refusal refusal;
    uv_poll_t poll;
    SSL *ssl;
    int fd; /* -1: it is somebody else's now */
};

static struct in6_addr key_of(const struct sockaddr_storage *from)
{
    struct in6_addr key = {0};

    if (from->ss_family == AF_INET) {
        key.s6_addr[10] = key.s6_addr[11] = 0xff;
        memcpy(key.s6_addr + 12, &((const struct sockaddr_in *)from)->sin_addr, 4);
    } else if (from->ss_family == AF_INET6) {
        key = ((const struct sockaddr_in6 *)from)->sin6_addr;
        if (!IN6_IS_ADDR_V4MAPPED(&key))
            memset(key.s6_addr + 8, 0, 8);
    }
    return key;
}

static struct handshake_source *source_of(struct handshake_pool *pool, const struct sockaddr_storage *from)
{
    struct in6_addr key = key_of(from);
    struct handshake_source *s = pool->sources;

    while (s && memcmp(&s->address, &key, sizeof(key)) != 0)
        s = s->next;
    if (s)
        return s;
    s = mem_new(struct handshake_source);
    s->address = key;
    s->next = pool->sources;
    pool->sources = s;
    return s;
}

static void source_leave(struct handshake_pool *pool, struct handshake_source *s)
{
    struct handshake_source **at = &pool->sources;

    if (--s->count > 0)
        return;
    while (*at != s)
        at = &(*at)->next;
    *at = s->next;
    free(s);
}

static void maybe_closed(struct handshake_pool *pool)
{
    if (pool->stopped && pool->count + pool->closing == 0)
        pool->closed(pool->close_owner);
}

static void on_closed(uv_handle_t *handle)
{
    struct handshake *h = handle->data;
    struct handshake_pool *pool = h->pool;

    SSL_free(h->ssl);
    if (h->fd >= 0)
        close(h->fd);
    free(h->refusal.subject);
    free(h);
    pool->closing--;
    maybe_closed(pool);
}

/* Gives back the slot at once, the rest when libuv has let go. */
static void leave(struct handshake *h)
{
    struct handshake_pool *pool = h->pool;

    *(h->prev ? &h->prev->next : &pool->oldest) = h->next;
    *(h->next ? &h->next->prev : &pool->newest) = h->prev;
    source_leave(pool, h->source);
    pool->count--;
    pool->closing++;
    uv_close((uv_handle_t *)&h->poll, on_closed);
}

static struct handshake *least(const struct handshake_pool *pool, const struct handshake_source *of)
{
    struct handshake *found = NULL;

    for (struct handshake *h = pool->oldest; h; h = h->next)
        if (h->source == of && (!found || h->progress < found->progress))
            found = h;
    return found;
}

static const struct handshake_source *busiest(const struct handshake_pool *pool)
{
    const struct handshake_source *most = pool->sources;

    for (const struct handshake_source *s = most; s; s = s->next)
        if (s->count > most->count)
            most = s;
    return most;
}

static void evict(struct handshake_pool *pool, const struct handshake_source *of)
{
    struct handshake *h = of ? least(pool, of) : NULL;
    uint64_t now = uv_now(pool->loop);

    if (!h)
        return;
    pool->evicted += h->progress != REFUSED;
    if (pool->evicted > 0 && now - pool->told_ms >= TELL_MS) {
        char address[REFUSED_ADDRESS_SIZE];

        refused_address(&h->from, address);
        log_warning(NULL,
                    "many connections to the TLS port are unfinished: %zu were closed for newer ones, the last from %s",
                    pool->evicted, address);
        pool->evicted = 0;
        pool->told_ms = now;
    }
    leave(h);
}

bool handshake_spare(struct handshake_pool *pool)
{
    bool any = pool->count > 0;

    evict(pool, busiest(pool));
    return any;
}

/* The client has unread bytes on the way, and a close would throw away the alert: the socket is read until its end. */
static void refuse(struct handshake *h, const char *reason)
{
    struct handshake_pool *pool = h->pool;
    char address[REFUSED_ADDRESS_SIZE];

    refused_address(&h->from, address);
    refused_add(&pool->log, uv_now(pool->loop), address, h->refusal.subject, reason);
    h->progress = REFUSED;
    h->refused_ms = uv_now(pool->loop);
    (void)shutdown(h->fd, SHUT_WR);
}

static void swallow(struct handshake *h)
{
    char buf[4096];
    ssize_t n = 1;

    for (int i = 0; n > 0 && i < 16; i++)
        n = recv(h->fd, buf, sizeof(buf), 0);
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
        leave(h);
}

static void on_ready(uv_poll_t *poll, int status, int events);

static void go_on(struct handshake *h)
{
    struct handshake_pool *pool = h->pool;
    bool want_write = false;
    unsigned long why;
    int rc;

    ERR_clear_error();
    rc = SSL_accept(h->ssl);
    if (rc == 1) {
        SSL *ssl = steal(&h->ssl);
        int fd = h->fd;

        h->fd = -1;
        SSL_set_app_data(ssl, NULL);
        leave(h);
        pool->done(pool->owner, ssl, fd, &h->from);
    } else if (tls_outcome(h->ssl, rc, &want_write) == WIRE_AGAIN) {
        uv_poll_start(&h->poll, UV_READABLE | (want_write ? UV_WRITABLE : 0), on_ready);
    } else if ((why = ERR_peek_error()) != 0) {
        refuse(h, h->refusal.reason ? h->refusal.reason : ERR_reason_error_string(why));
        swallow(h);
    } else {
        leave(h); /* the client has left */
    }
}

static void wake_at(const struct handshake *h, int bytes)
{
    (void)setsockopt(h->fd, SOL_SOCKET, SO_RCVLOWAT, &bytes, sizeof(bytes));
}

/* Nothing is made for a client before its first record is here as a whole. The kernel keeps it until then, and wakes
 * us only when there is enough. */
static void look_for_hello(struct handshake *h, bool half_closed)
{
    unsigned char head[RECORD_HEAD];
    ssize_t n = recv(h->fd, head, sizeof(head), MSG_PEEK);
    int have = 0, need = RECORD_HEAD;

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n == RECORD_HEAD)
        need += head[3] << 8 | head[4];
    if (n <= 0 || head[0] != SSL3_RT_HANDSHAKE || need > RECORD_MAX || ioctl(h->fd, FIONREAD, &have) < 0 ||
        (have < need && half_closed)) {
        leave(h);
    } else if (have < need) {
        wake_at(h, need);
    } else {
        wake_at(h, 1);
        h->progress = KEYS;
        h->ssl = SSL_new(*h->pool->ctx);
        if (!h->ssl || SSL_set_fd(h->ssl, h->fd) != 1)
            abort();
        SSL_set_app_data(h->ssl, &h->refusal);
        SSL_set_accept_state(h->ssl);
        go_on(h);
    }
}

static void on_ready(uv_poll_t *poll, int status, int events)
{
    struct handshake *h = poll->data;

    if (status < 0)
        leave(h);
    else if (h->progress == HELLO)
        look_for_hello(h, events & UV_DISCONNECT);
    else if (h->progress == KEYS)
        go_on(h);
    else
        swallow(h);
}

void handshake_begin(struct handshake_pool *pool, int fd, const struct sockaddr_storage *from)
{
    struct handshake_source *source = source_of(pool, from);
    struct handshake *h = mem_new(struct handshake);

    source->count++; /* so that it stays */
    if (source->count > SOURCE_MAX)
        evict(pool, source);
    else if (pool->count >= SLOTS_MAX)
        evict(pool, busiest(pool));
    *h = (struct handshake){
        .pool = pool, .prev = pool->newest, .source = source, .from = *from, .progress = HELLO, .fd = fd};
    *(h->prev ? &h->prev->next : &pool->oldest) = h;
    pool->newest = h;
    pool->count++;
    h->begun_ms = uv_now(pool->loop);
    wake_at(h, RECORD_HEAD);
    if (uv_poll_init(pool->loop, &h->poll, fd) != 0)
        abort();
    h->poll.data = h;
    uv_poll_start(&h->poll, UV_READABLE | UV_DISCONNECT, on_ready);
}

static bool is_late(const struct handshake *h, uint64_t now)
{
    if (h->progress == REFUSED)
        return now - h->refused_ms > LINGER_MS;
    return now - h->begun_ms > (h->progress == HELLO ? HELLO_MS : HANDSHAKE_MS);
}

static void on_sweep(uv_timer_t *timer)
{
    struct handshake_pool *pool = timer->data;
    uint64_t now = uv_now(pool->loop);

    for (struct handshake *h = pool->oldest, *next; h; h = next) {
        next = h->next;
        if (is_late(h, now))
            leave(h);
    }
    refused_sum_up(&pool->log, now);
}

void handshake_pool_start(struct handshake_pool *pool)
{
    uv_timer_init(pool->loop, &pool->sweep);
    pool->sweep.data = pool;
    uv_timer_start(&pool->sweep, on_sweep, SWEEP_MS, SWEEP_MS);
}

static void on_sweep_closed(uv_handle_t *handle)
{
    struct handshake_pool *pool = handle->data;

    pool->stopped = true;
    maybe_closed(pool);
}

void handshake_pool_close(struct handshake_pool *pool, void *owner, void (*closed)(void *owner))
{
    pool->close_owner = owner;
    pool->closed = closed;
    for (struct handshake *h = pool->oldest, *next; h; h = next) {
        next = h->next;
        leave(h);
    }
    uv_close((uv_handle_t *)&pool->sweep, on_sweep_closed);
}
