/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Datagrams of the container through a SOCKS5 proxy (RFC 1928, 7). An association is one source of the container, with
 * the connection to the proxy that it lives by; a flow is one target that the source has sent to, with a socket that
 * has the target's address. What the source sends next to this target comes by that socket, and answers go out by it.
 * Answers of others than such targets are dropped.
 */
#pragma once

#include "relay/upstream.h"

struct flow {
    struct flow *next;
    struct association *association;
    struct sockaddr_storage target;
    uint32_t id;     /* of the request to the broker */
    int fd;          /* -1: the broker has not answered yet */
    uv_poll_t *poll; /* under fd */
    int64_t used;
};

struct pending {
    struct sockaddr_storage target;
    size_t len;
    uint8_t data[];
};

enum { PENDING_MAX = 8, PENDING_BYTES = 16384 };

struct association {
    struct association *next;
    struct udp *udp;
    struct sockaddr_storage client;
    struct upstream *control;
    int fd;          /* to the proxy; -1: not open yet */
    uv_poll_t *poll; /* under fd */
    struct flow *flows;
    struct pending *pending[PENDING_MAX]; /* until it is open, and the target has its socket */
    size_t pending_count, pending_bytes;
    int64_t used;
};

struct udp {
    struct relay *relay;
    uv_poll_t polls[2], broker;
    uv_timer_t timer;
    struct association *associations;
    size_t association_count, flow_count;
    uint32_t last_id;
    bool known, carried;   /* whether the proxy carries datagrams */
    int64_t not_before;    /* when it may be asked again */
    uint64_t dropped;      /* datagrams, both ways */
    uint64_t told_dropped; /* what noded knows */
    int64_t told_at;
    uint8_t buf[65536];
};

/* association.c: finds or makes; NULL: there are too many, or the proxy is not to be asked now. */
struct association *association_get(struct udp *u, const struct sockaddr_storage *client, int64_t now);
/* A datagram to the flow's target; it waits while there is no way yet. */
void association_send(struct association *a, const struct flow *f, const uint8_t *data, size_t len);
/* Sends what waited and need not wait any more. */
void association_flush(struct association *a);
/* Ends flows that were idle for too long, and the association when it has none left. */
void association_expire(struct association *a, int64_t now);

/* udp.c: a datagram from the container. */
void udp_outgoing(struct udp *u, const struct sockaddr_storage *client, const struct sockaddr_storage *target,
                  const uint8_t *data, size_t len);
/* Waits for fd; unwatch closes it, too. */
uv_poll_t *udp_watch(struct udp *u, int fd, uv_poll_cb cb, void *owner);
void udp_unwatch(uv_poll_t **poll, int *fd);

/* flow.c: finds or makes; NULL: there are too many, or the broker has too much to do. */
struct flow *flow_get(struct association *a, const struct sockaddr_storage *target);
struct flow *flow_find(const struct association *a, const struct sockaddr_storage *target);
void flow_close(struct flow *f);
/* A poll callback: answers of the broker. */
void flow_on_broker(uv_poll_t *poll, int status, int events);
