/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Connections that are let in: bytes between a client and a socket pair whose other end the HTTP server has. A set of
 * them is bounded as a whole and for each client; when it is full, the connection that was idle longest of the client
 * with the most is closed, not the newcomer. Loop thread only.
 */
#pragma once

#include "agent/http/http.h"
#include "agent/http/link.h"
#include "agent/http/memory.h"
#include "agent/http/wire.h"

enum { PUMP_RECORD = 16384 }; /* bytes that a pump moves at once: a whole TLS record */

struct pump_set {
    uv_loop_t *loop;
    struct http_server *http; /* used until pump_set_close */
    struct memory *memory;
    struct pump *first;
    size_t count, max, client_max;
    bool closing;
    uv_timer_t last_call; /* what has not ended by then is cut */
    int open_handles;
    void *owner;
    void (*closed)(void *owner);
};

/* memory must live as long as the set. */
void pump_set_init(struct pump_set *set, uv_loop_t *loop, struct http_server *http, struct memory *memory, size_t max,
                   size_t client_max);
/* Nothing is added any more; `closed` runs when the last connection has ended. Idle ones are cut, the HTTP server
 * (which is closed at the same time) ends the others; what is left after some seconds is cut. */
void pump_set_close(struct pump_set *set, void *owner, void (*closed)(void *owner));
/* Takes over the wire, of which the peer is known. One for which there is no room gets an error as its answer. */
void pump_add(struct pump_set *set, struct wire wire, const struct peer *peer);
/* Cuts those that `wrong` names a reason for, and logs it. */
void pump_set_review(struct pump_set *set, void *owner,
                     const char *(*wrong)(void *owner, const struct wire *wire, const struct peer *peer));
/* The connection that was idle longest is closed, so that there is a descriptor again; false: none is idle. */
bool pump_set_spare(struct pump_set *set);
