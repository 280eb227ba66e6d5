/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What other programs do to the node's network is noticed and put right, at once as a rule. One that goes on changing
 * it is answered once a second at most, so that two programs which disagree do not keep the host busy. Each repair is
 * an event server.health_changed; while it is contested, only the beginning and the end are. Loop thread only.
 */
#pragma once

#include "agent/agent.h"

/* After the first net_sync. */
MUST_USE struct err *drift_start(struct agent *a, struct drift **ret);
/* `closed` is called on the loop; nothing may wait on the network lane. */
void drift_close(struct drift *d, void *owner, void (*closed)(void *owner));
void drift_free(struct drift *d);
DEFINE_AUTO(struct drift, drift_free)

/* The slot gets a fresh link. d may be NULL. */
void drift_link_made(struct drift *d, int slot);

/* The event server.health_changed of the network. found is taken over; container_id and remedy may be NULL. */
void drift_tell(struct agent *a, const char *state, const char *container_id, json_t *found, const char *remedy);

/* {"state": "ok" | "contested" | "failed", "repairs", "last_repair_at", "lost_links": [container ids], "conflicts":
 * [{"program", "family", "table", "chain", "hook", "effect", "remedy"}], "connections": connections_json()} */
json_t *drift_json(const struct agent *a);
