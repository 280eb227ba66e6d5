/* SPDX-License-Identifier: Apache-2.0 */
/* Ports of this host that lead to a container: record.host "forwards", an array of {"protocol", "host_port",
 * "container_port"} in the order in which they were added. Loop thread only. */
#pragma once

#include "agent/agent.h"

/* For the rules; the caller frees them. */
struct nf_forward *forwards_of(const struct container *c, size_t *ret_count);
/* The container that has a host port, and where in its list; NULL: none. */
const struct container *forward_owner(const struct agent *a, int protocol, int64_t host_port, size_t *ret_index);
extern const char *const forward_protocol_words[]; /* tcp, udp; NULL-terminated */
