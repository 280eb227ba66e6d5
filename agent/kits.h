/* SPDX-License-Identifier: Apache-2.0 */
/* Which kits a container has, and which ports they listen on. Loop thread only. */
#pragma once

#include "agent/agent.h"

/* The kits of the suite as {"name", "version"} array, for a new container; the caller's reference. */
json_t *kits_of_suite(const struct agent *a);
/* The container's entry of a kit by name, or NULL. Borrowed. */
const json_t *kits_find(const struct container *c, const char *name);
/* TCP ports of the container's kit services; the caller frees them. */
uint16_t *kits_ports(const struct agent *a, const struct container *c, size_t *ret_count);
