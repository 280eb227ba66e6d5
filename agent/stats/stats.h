/* SPDX-License-Identifier: Apache-2.0 */
/* The statistics of a container, as the API shows them. Loop thread only. */
#pragma once

#include "agent/agent.h"

/* done gets the object, the caller's, or an error: ERR_NOT_FOUND when the container went away meanwhile. */
void stats_read(struct agent *a, const struct container *c, void *owner,
                void (*done)(void *owner, struct err *e, json_t *stats));
