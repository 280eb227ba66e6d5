/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host's connection table: looked at every two seconds. That it fills, and that a container wants more connections
 * than its share, is an event server.health_changed each, and so is the end of it. A container at its limit loses the
 * entries of connections that were never answered, every fifteen seconds at most. The limits themselves are rules in
 * the kernel (netfilter/counted.c) and hold without this process; they are made anew when the table gets another size.
 * Loop thread only.
 */
#pragma once

#include "agent/agent.h"

struct connections;

/* After the first net_sync: its rules have loaded conntrack, so that the table can be made larger. */
struct connections *connections_start(struct agent *a);
void connections_close(struct connections *c, void *owner, void (*closed)(void *owner));

/* {"state": "ok" | "filling" | "uncounted", "used", "max", "share", "all", "at_limit": [container ids]}; numbers of
 * entries, `share` of a container in each direction, `all` of all containers together. */
json_t *connections_json(const struct agent *a);
