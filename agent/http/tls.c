/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/http/tls.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <unistd.h>

#include "agent/http/acceptor.h"
#include "agent/http/pump.h"
#include "agent/http/tls_handshake.h"
#include "agent/http/tls_wire.h"
#include "base/clock.h"
#include "base/log.h"

/* Connections that are let in, of all clients and of one. */
enum { CONNECTIONS_MAX = 512, CLIENT_MAX = 256 };

struct tls_listener {
    uv_loop_t *loop;
    SSL_CTX *ctx;
    struct tls_expiry expiry;
    struct acceptor acceptor;
    struct handshake_pool handshakes;
    struct pump_set pumps;
    int open; /* parts that still close */
    void *owner;
    void (*closed)(void *owner);
};

static void on_accepted(void *owner, int fd, const struct sockaddr_storage *from)
{
    struct tls_listener *t = owner;
    int one = 1;

    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    handshake_begin(&t->handshakes, fd, from);
}

static bool on_out_of_descriptors(void *owner)
{
    struct tls_listener *t = owner;

    return handshake_spare(&t->handshakes) || pump_set_spare(&t->pumps);
}

/* A handshake that began before a reload was checked against the old lists. */
static void on_verified(void *owner, SSL *ssl, int fd, const struct sockaddr_storage *from)
{
    struct tls_listener *t = owner;
    const char *wrong = SSL_get_SSL_CTX(ssl) == t->ctx ? NULL : tls_verify_again(t->ctx, ssl);
    struct peer peer;
    int one = 1;

    /* Else the client's kernel holds back the request until our delayed ACK of its Finished: 40 ms. */
    (void)setsockopt(fd, IPPROTO_TCP, TCP_QUICKACK, &one, sizeof(one));
    if (!wrong && tls_peer(ssl, &peer)) {
        pump_add(&t->pumps, tls_wire(ssl, fd), &peer);
        return;
    }
    (void)from;
    log_warning(NULL, "a client was refused after its handshake: %s", wrong ? wrong : "it has no role");
    SSL_free(ssl);
    close(fd);
}

struct err *tls_listener_start(uv_loop_t *loop, int listen_fd, const struct config *config, struct http_server *http,
                               struct memory *memory, struct tls_listener **ret)
{
    struct tls_listener *t = mem_new(struct tls_listener);
    struct err *e = tls_context_new(config, &t->ctx);

    if (e) {
        close(listen_fd);
        free(t);
        return e;
    }
    t->loop = loop;
    tls_expiry_of(t->ctx, config, &t->expiry);
    pump_set_init(&t->pumps, loop, http, memory, CONNECTIONS_MAX, CLIENT_MAX);
    t->handshakes = (struct handshake_pool){.loop = loop, .ctx = &t->ctx, .owner = t, .done = on_verified};
    handshake_pool_start(&t->handshakes);
    t->acceptor = (struct acceptor){.owner = t, .accepted = on_accepted, .spare = on_out_of_descriptors};
    acceptor_start(&t->acceptor, loop, listen_fd);
    *ret = t;
    return NULL;
}

struct err *tls_files_check(const struct config *config, char **ret_warning)
{
    SSL_CTX *ctx = NULL;
    struct tls_expiry expiry;
    struct err *e = tls_context_new(config, &ctx);

    *ret_warning = NULL;
    if (e)
        return e;
    tls_expiry_of(ctx, config, &expiry);
    SSL_CTX_free(ctx);
    e = tls_expiry_check(&expiry);
    if (!e)
        *ret_warning = tls_expiry_text(&expiry, clock_wall_ms());
    return e;
}

static const char *wrong_now(void *owner, const struct wire *wire, const struct peer *peer)
{
    const struct tls_listener *t = owner;

    (void)peer;
    return tls_verify_again(t->ctx, wire->tls);
}

struct err *tls_listener_reload(struct tls_listener *t, const struct config *config)
{
    SSL_CTX *fresh = NULL;
    struct tls_expiry expiry;
    struct err *e = tls_context_new(config, &fresh);

    if (e)
        return e;
    tls_expiry_of(fresh, config, &expiry);
    e = tls_expiry_check(&expiry);
    if (e) {
        SSL_CTX_free(fresh);
        return e;
    }
    SSL_CTX_free(t->ctx); /* connections hold references of their own */
    t->ctx = fresh;
    t->expiry = expiry;
    pump_set_review(&t->pumps, t, wrong_now);
    return NULL;
}

const struct tls_expiry *tls_listener_expiry(const struct tls_listener *t)
{
    return &t->expiry;
}

static void on_part_closed(void *owner)
{
    struct tls_listener *t = owner;

    if (--t->open > 0)
        return;
    SSL_CTX_free(t->ctx);
    t->closed(t->owner);
    free(t);
}

void tls_listener_close(struct tls_listener *t, void *owner, void (*closed)(void *owner))
{
    t->owner = owner;
    t->closed = closed;
    t->open = 3;
    acceptor_close(&t->acceptor, t, on_part_closed);
    handshake_pool_close(&t->handshakes, t, on_part_closed);
    pump_set_close(&t->pumps, t, on_part_closed);
}
