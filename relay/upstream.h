/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A connection to a target through the proxy: name lookup, TCP, TLS for an https proxy, handshake, then bytes. Data is
 * given piece by piece: after each one nothing is read until upstream_resume, so that nobody has to keep it.
 */
#pragma once

#include "relay/relay.h"

struct upstream;

enum upstream_failure { UPSTREAM_REFUSED, UPSTREAM_DOWN }; /* this target only; the proxy itself */

/* All run on the loop, never from inside upstream_open, and not any more after upstream_close. */
struct upstream_events {
    void (*opened)(void *owner);
    /* Instead of opened. problem is text for people, valid during the call. The owner closes. */
    void (*failed)(void *owner, enum upstream_failure failure, const char *problem);
    void (*data)(void *owner, const uint8_t *data, size_t len); /* valid during the call */
    void (*written)(void *owner);
    void (*ended)(void *owner, bool broken); /* nothing more comes; broken: nothing can be sent either */
};

/* HANDSHAKE_PROBE: only as far as needed to see that the proxy works with us. HANDSHAKE_ASSOCIATE: no bytes follow;
 * datagrams may be sent to upstream_bound as long as the connection lives. */
struct upstream *upstream_open(struct relay *r, const struct sockaddr *target, enum handshake_use use,
                               const struct upstream_events *events, void *owner);
/* After opened with HANDSHAKE_ASSOCIATE; false: the proxy names no place, or one that relays do not send to. */
bool upstream_bound(const struct upstream *u, struct sockaddr_storage *ret);
/* Copies; one write at a time, `written` tells of its end. */
void upstream_write(struct upstream *u, const uint8_t *data, size_t len);
void upstream_resume(struct upstream *u);
/* No more writes: the target sees the end. */
void upstream_shutdown(struct upstream *u);
void upstream_close(struct upstream *u); /* NULL is taken */
