/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A lane: blocking work that runs off the loop, one piece after the other in the order of submission, on libuv's thread
 * pool. The only place that uses the pool. Work gets a copy or a thing nobody else touches meanwhile; `done` runs on
 * the loop, exactly once, never from inside the submit call.
 */
#pragma once

#include <uv.h>

#include "base/err.h"

struct lane;

typedef struct err *lane_work_fn(void *arg);         /* on the pool thread */
typedef void lane_done_fn(void *arg, struct err *e); /* on the loop; e passes to it */

struct lane *lane_new(uv_loop_t *loop, const char *name);
void lane_submit(struct lane *lane, lane_work_fn *work, void *arg, lane_done_fn *done);
size_t lane_length(const struct lane *lane);
/* Frees it; nothing may be queued or running. */
void lane_free(struct lane *lane);
