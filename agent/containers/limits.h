/* SPDX-License-Identifier: Apache-2.0 */
/* Limits of a container: member "limits" of record.host, an object of "up", "down" (bits a second), "connections" and
 * "disk" (bytes). */
#pragma once

#include "agent/agent.h"

struct nf_limits limits_of(const struct container *c);
int64_t limits_disk(const struct container *c); /* 0: none */
