/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pools of spare containers: started ahead, with their kits ready, for creates to take. A spare one has a slot, a row
 * and an operation like any other, but no project; clients do not see it, and nobody gets packets in. Its record says
 * what it was made with; when the image, the suite or the configuration is another one by now, or it does not run well,
 * it is deleted and another one made. That happens one at a time, and only while nothing else is to be done. Loop
 * thread only.
 *
 * A create that asks for the same claims one (operations/claim.c): the container keeps its slot, addresses and ids; all
 * that is somebody's is written anew.
 */
#pragma once

#include "agent/operations/operation.h"

struct warm *warm_start(struct agent *a);
void warm_close(struct warm *w, void *owner, void (*closed)(void *owner));

/* What a new container is made from: image, kits and their versions; image is taken over. */
void warm_fill(struct agent *a, struct container *c, char *image, bool hoody_kit, bool dev_kit);
/* A spare container for a new one whose record is complete; NULL when none is ready that could become it. */
struct container *warm_take(struct agent *a, const struct container *c);
/* How the claim for this container went; e: why it failed, borrowed. After a failure, and the longer the more there
 * were in a row, creates do not wait for another one. */
void warm_claimed(const struct agent *a, const struct container *c, const struct err *e);
/* The pools and what is in them. */
json_t *warm_report(const struct agent *a);

/* The spare container becomes c's: an operation that nobody has started, with its statements in tx. c, which is not in
 * the registry, is taken over. */
struct operation *claim_new(struct agent *a, struct container *spare, struct container *c, struct store_tx *tx);
/* For `done` of such an operation, and of any other: what the claim has kept. If nothing of it was recorded, the spare
 * container is one again. */
void claim_over(struct operation *op);
