/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A container's environment variables are recorded first and written into its root afterwards, by a job. What is
 * recorded and not yet written is pending: it is tried again whenever an operation of the container ends and when noded
 * starts.
 */
#pragma once

#include "agent/agent.h"

bool environment_is_pending(const struct container *c);
/* Writes the recorded set and notes the outcome in the record; done runs when that is committed. An operation that
 * makes or swaps the root holds it off: then nothing is written and it stays pending. e is about the record only:
 * whether the write itself went well stands in the record. */
void environment_apply(struct agent *a, struct container *c, void *owner, agent_done_fn *done);
/* Tries again what is pending, for nobody in particular. */
void environment_retry(struct agent *a, struct container *c);
