/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A host may have IPv6 switched off (nf_ipv6_off). Then the node works with IPv4 alone: links, containers, relays and
 * what the API shows have no IPv6. What holds is decided at the start and stays until the next one.
 */
#pragma once

#include "agent/agent.h"

/* At the start, before anything of the network: looks, and says so in the log when it is off. */
void ipv6_look(struct agent *a);
/* The container's address and the gateway's; NULL when the node has no IPv6. */
const char *ipv6_address(const struct agent *a, const struct container *c);
const char *ipv6_gateway(const struct agent *a);
/* "ipv6" of the node's health: {"enabled", "reason"}, the reason only when it is off. */
json_t *ipv6_json(const struct agent *a);
/* After the network is synced: when the node started with the opposite before, containers that run get their address,
 * or lose it. What fails is tried again at the next start. */
void ipv6_bring(struct agent *a);
