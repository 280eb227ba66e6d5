/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A force-stop or a deletion need not wait for an operation that only waits for the guest to shut down: the stop, and
 * the first step of a restart. That operation's wait is ended, it has changed nothing, and it fails with
 * OPERATION_TAKEN_OVER in the same transaction that records the intent of the one that takes over. So whatever crashes
 * when, one of the two is repeated. All other work keeps its container.
 */
#pragma once

#include "agent/operations/operation.h"

#define TAKEN_OVER "OPERATION_TAKEN_OVER"

/* Whether the container is held by an operation that another one may end now. */
bool operation_gives_way(const struct container *c);
/* As operation_check_free, and NULL when the one that holds it gives way. */
MUST_USE struct err *operation_check_takeover(const struct container *c, const char *what);
/* As operation_start, of a container that operation_check_takeover let pass. */
void operation_take_over(struct operation *op);
/* One sentence: how the operation can be ended. The caller frees it. */
char *operation_hint(const struct operation *op);

/* The job that op waited with has ended with e (owned). Returns what its step ends with. */
MUST_USE struct err *takeover_after_wait(struct operation *op, struct err *e);
/* op's successor does not begin: it is answered with e (owned) and freed; the status is that of before it. */
void takeover_refuse(struct operation *op, struct err *e);
