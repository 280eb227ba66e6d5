/* SPDX-License-Identifier: Apache-2.0 */
/* The server's own figures, from /proc and the pool. Loop thread only: short reads of kernel files. */
#pragma once

#include "agent/agent.h"

struct metrics;

/* Takes the first sample, that the share of busy time is counted from. */
struct metrics *metrics_new(struct agent *a);
void metrics_free(struct metrics *m);

/* {uptime_s, cores, load, cpu, mem, swap, storage, cache_age_ms, stale}, at most a second old; NULL when nothing can be
 * read. The caller's. */
json_t *metrics_get(struct metrics *m);
