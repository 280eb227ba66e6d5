/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Jobs in worker processes: one noded-worker per job, a framed request and a framed result over a socketpair, a
 * deadline, then SIGKILL. A bounded number runs at once, the rest waits in order. `done` runs on the loop exactly once,
 * later, never from inside the run call; the error and the result pass to it (result is NULL on error).
 */
#pragma once

#include <uv.h>

#include "jobs/jobs.h"

struct workers;

typedef void worker_done_fn(void *owner, struct err *e, json_t *result);

struct workers *workers_new(uv_loop_t *loop, const char *program, size_t max_running);
/* What a job has besides its request. */
struct worker_io {
    int stream; /* an fd that the job reads or writes, taken over; -1: none */
    /* Something has been done of a total (0: not known); may be NULL. */
    void (*progress)(void *owner, int64_t done, int64_t total);
};

/* Takes over the request (job_request). extra_ms is added to the deadline of the kind. io may be NULL. What it returns
 * is valid until `done` is called. */
struct worker *workers_run(struct workers *w, enum job_kind kind, json_t *request, int64_t extra_ms,
                           const struct worker_io *io, void *owner, worker_done_fn *done);
/* Tells a job that waits for something to wait no longer: its channel ends. It answers ERR_CANCELLED when it was still
 * waiting, and else as ever; one that waits for nothing does not look. From now on it has the deadline of its kind and
 * nothing more. One in the queue is not begun. */
void worker_hang_up(struct worker *w);
size_t workers_count(const struct workers *w); /* running and waiting */
/* Frees it; nothing may run or wait. */
void workers_free(struct workers *w);
