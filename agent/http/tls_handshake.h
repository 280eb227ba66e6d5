/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Connections that have not shown a good certificate yet. They have a pool of slots of their own, so they take none
 * from those that are let in; a source address (of IPv6: a /64) has a share of it. When there is no slot, the newcomer
 * gets that of the source with the most: of the connection that got least far, the oldest. A connection costs a
 * descriptor and a few hundred bytes until its whole ClientHello is there. Loop thread only.
 */
#pragma once

#include <openssl/ssl.h>
#include <sys/socket.h>
#include <uv.h>

#include "agent/http/http.h"
#include "agent/http/refused_log.h"

struct handshake_pool {
    uv_loop_t *loop;
    SSL_CTX **ctx; /* the newest, borrowed */
    struct handshake *oldest, *newest;
    struct handshake_source *sources;
    size_t count;   /* in slots */
    size_t closing; /* not in slots any more, but in memory */
    struct refused_log log;
    uv_timer_t sweep;
    bool stopped;
    size_t evicted; /* since the last entry of the log about it */
    uint64_t told_ms;
    void *owner;
    /* A verified connection; ssl and its socket are the owner's now. */
    void (*done)(void *owner, SSL *ssl, int fd, const struct sockaddr_storage *from);
    void *close_owner;
    void (*closed)(void *owner);
};

/* owner, done, ctx and loop are set by the caller. */
void handshake_pool_start(struct handshake_pool *pool);
void handshake_pool_close(struct handshake_pool *pool, void *owner, void (*closed)(void *owner));
/* Takes over the socket. */
void handshake_begin(struct handshake_pool *pool, int fd, const struct sockaddr_storage *from);
/* Ends the connection that is of least use; false: there is none. */
bool handshake_spare(struct handshake_pool *pool);
