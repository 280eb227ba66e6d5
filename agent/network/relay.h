/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The relays of the node: one process per container whose way out is a proxy. A relay outlives noded, which finds it by
 * its socket again; one that ends is replaced, later each time. The rules do not depend on it: without a relay the
 * container has no way out. Loop thread only.
 */
#pragma once

#include "agent/agent.h"

struct relay;

/* Makes the container's relay what its configuration says: none, the one that is there, or a new one. */
void relay_apply(struct agent *a, struct container *c);
/* Calls done (never from inside) when it is known whether the proxy answers, or after some seconds. The container must
 * have a relay; one waits at a time. */
void relay_wait(struct container *c, void *owner, agent_done_fn *done);
/* The container goes: so does its relay. */
void relay_end(struct container *c);
/* At a start: finds those that run, ends those that nobody wants, starts what is missing. */
void relay_adopt(struct agent *a);
/* Lets go of all, they go on. closed runs as often as the result says. */
int relays_close(struct agent *a, void *owner, void (*closed)(void *owner));

struct relay_status {
    bool reachable;      /* the proxy works, as far as is known */
    const char *problem; /* else; borrowed */
    int64_t checked_at;  /* ms; 0: never */
    const json_t *udp;   /* as it says of datagrams; borrowed; NULL: nothing */
};
struct relay_status relay_status(const struct container *c);
