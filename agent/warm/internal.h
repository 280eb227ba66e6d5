/* SPDX-License-Identifier: Apache-2.0 */
/* What warm.c, which keeps the pools, and report.c, which shows them, share. Loop thread only. */
#pragma once

#include "agent/ticker.h"
#include "agent/warm/warm.h"

enum { WARM_REASON_SIZE = 200 };

struct warm_pool {
    struct config_warm want;
    bool filling; /* it was below its low mark and is not up to the high one */
    int failures; /* one after the other */
    int64_t retry_ms;
    char *error; /* of the last one */
    int64_t made, claimed, missed, replaced;
};

struct warm {
    struct agent *agent;
    struct ticker ticker;
    struct warm_pool *pools;
    size_t count;
    const char *waits; /* why none is made now; NULL: none is needed, or one is on its way */
};

/* NULL: no pool wants such a container. */
struct warm_pool *warm_pool_of(const struct warm *w, const struct container_record *r);
/* It is being removed. */
bool warm_is_leaving(const struct container *c);
/* Whether a create may have it now. */
bool warm_is_ready(const struct warm *w, const struct container *c);
/* Why it has to go; "": it is well, or nothing is known yet. */
void warm_judge(const struct warm *w, const struct container *c, char ret[WARM_REASON_SIZE]);
