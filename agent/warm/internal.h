/* SPDX-License-Identifier: Apache-2.0 */
/* What warm.c, which keeps the pools, choice.c, which knows what is in them, and report.c, which shows them, share.
 * Loop thread only. */
#pragma once

#include "agent/ticker.h"
#include "agent/warm/warm.h"

enum {
    WARM_REASON_SIZE = 200,
    WARM_RETRY_MS = 1000, /* after a failure; twice as long after the next one, and so on */
    WARM_RETRY_TIMES = 8,
};

struct warm_pool {
    struct config_warm want;
    bool filling; /* it was below its low mark and is not up to the high one */
    int failures; /* one after the other */
    int64_t retry_ms;
    char *error; /* of the last one */
    int claim_failures;
    int64_t claims_from_ms; /* none is claimed before */
    char *claim_error;      /* of the last claim */
    int64_t made, claimed, failed, missed, replaced;
};

struct warm {
    struct agent *agent;
    struct ticker ticker;
    struct warm_pool *pools;
    size_t count;
    const char *waits;     /* why none is made now; NULL: none is needed, or one is on its way */
    int64_t busy_since_ms; /* somebody else has kept us waiting since then; 0: nobody */
};

/* The image that a container of this name and kind is made from; NULL: this server has none. */
struct image *warm_image_for(const struct agent *a, const char *name, bool dev_kit);
/* Of the configuration, what a claim does not write anew. The caller frees it. */
char *warm_made_with(const struct config *config);
/* NULL: no pool wants such a container. */
struct warm_pool *warm_pool_of(const struct warm *w, const struct container_record *r);
/* All of it but those that are being removed. */
size_t warm_count_of(const struct warm *w, const struct warm_pool *pool);
/* It is being removed. */
bool warm_is_leaving(const struct container *c);
/* Whether a create may have it now. */
bool warm_is_ready(const struct warm *w, const struct container *c);
/* Why it has to go; "": it is well, or nothing is known yet. */
void warm_judge(const struct warm *w, const struct container *c, char ret[WARM_REASON_SIZE]);
