/* SPDX-License-Identifier: Apache-2.0 */
/* Steps that several kinds of operation share. Each begins its work and ends in op_step_done. */
#pragma once

#include "agent/operations/operation.h"

op_step_fn step_clean;     /* recovered operations only: removes all of an earlier attempt */
op_step_fn step_rootfs;    /* root file system from the image or the source, seeded */
op_step_fn step_destroy;   /* everything of the slot on disk; also the undo of step_rootfs */
op_step_fn step_net_up;    /* fresh link, rules closed */
op_step_fn step_net_open;  /* rules as recorded */
op_step_fn step_net_rules; /* the same, nothing when it has no link */
op_step_fn step_net_down;  /* also the undo of step_net_up */
op_step_fn step_start;     /* liblxc start, watch begins */
op_step_fn step_stop;      /* gently for args.timeout_ms, then by force; nothing when it is not up */
op_step_fn step_kill;      /* at once; also the undo of step_start */
op_step_fn step_kits;      /* its kits' services answer, or kits.create_wait is over */
op_step_fn step_trim;      /* a spare container gives memory back; others keep it */
op_step_fn step_nothing;

/* The identity of a container, as JOB_CREATE and JOB_SYNC_MAKE take it. */
json_t *seed_of(const struct agent *a, const struct container *c);

/* A job about the operation's container; ends the step. Its result becomes op->result. Where the operation has a bound
 * of its own (args.timeout_ms), the job must end within it. */
void step_job(struct operation *op, enum job_kind kind, const void *args);

/* Outcomes that several kinds share. */
void outcome_running(struct operation *op, struct store_tx *tx);
void outcome_stopped(struct operation *op, struct store_tx *tx);
void outcome_failed(struct operation *op, struct store_tx *tx);
/* The status from before; what really became of the container is settled afterwards. */
void outcome_as_before(struct operation *op, struct store_tx *tx);
