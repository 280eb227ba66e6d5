/* SPDX-License-Identifier: Apache-2.0 */
/* The chains and sets of our tables as they are in the kernel, to be kept and filled anew by one transaction. */
#pragma once

#include "netfilter/expr.h"

struct nf;
struct thing;

struct refill {
    struct thing *things; /* sorted */
    size_t count;
};

/* Of an empty or used *ret; 0 or a positive errno. No tables: nothing. refill_clear() in any case. */
int refill_read(struct nf *nf, struct refill *ret);
/* The batch's first messages: the tables are there and nothing is in their chains and sets. */
void refill_begin(const struct nf *nf, const struct refill *r, const struct build *b);
/* When the batch has made all that is wanted: the rest goes. False: something is there with another shape, so that it
 * cannot be kept; nothing was added to the batch. */
bool refill_end(struct refill *r, const struct build *b);
void refill_clear(struct refill *r);
