/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sees to what is deleted (storage/reclaim.h): a job destroys it bit by bit, as long as there is any. In a hurry when
 * the pool has little room. Loop thread only.
 */
#pragma once

#include "agent/agent.h"

struct reclaim *reclaim_start(struct agent *a);
/* A job is over, which may have deleted something, done or failed: soon there will be a look. */
void reclaim_job_ended(struct reclaim *r, enum job_kind kind);
/* ERR_HOST when more waits than storage.reclaim_max: nothing is begun that would be deleted again. */
MUST_USE struct err *reclaim_check(const struct agent *a);
/* Subvolumes that the node destroyed and that the kernel is still at. */
int64_t reclaim_destroyed(const struct agent *a);
void reclaim_close(struct reclaim *r, void *owner, void (*closed)(void *owner));
