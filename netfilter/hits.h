/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the rules of users have counted, read out of the kernel. A kernel rule carries the id of the rule that it was
 * made of (rule_id) in its user data; several of one rule are summed.
 */
#pragma once

#include "netfilter/nf.h"

struct hit {
    int slot;
    enum rule_direction direction;
    uint64_t id;
    struct nf_hits sum;
};

struct hits {
    struct hit *list; /* sorted */
    size_t count;
};

/* All chains of a slot, or of the whole table when it is 0. Nothing when there are none. Returns 0 or a positive errno.
 */
int hits_collect(struct nf *nf, int slot, struct hits *ret);
/* Zero for what was not found. */
struct nf_hits hits_of(const struct hits *h, int slot, enum rule_direction direction, uint64_t id);
void hits_clear(struct hits *h);
