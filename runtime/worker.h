/* SPDX-License-Identifier: Apache-2.0 */
/* What the worker's programs have in common: take one request, run it, answer, end. */
#pragma once

#include "runtime/job.h"

#define WORKER_CHANNEL_FD 3
/* Bytes that the job reads or writes, when it has any. */
#define WORKER_STREAM_FD 4
/* The request of a program that another one handed over to. */
#define WORKER_REQUEST_FD 5

struct worker_row {
    job_fn run; /* NULL: not done by this program */
    size_t args_size;
    bool has_slot;
};

/* Called for a job that has no row; replaces the process or fails. `request` is borrowed. */
typedef struct err *(*worker_other_fn)(int channel, const json_t *request);

/* The whole program. Rows are indexed by enum job_kind; request_fd is the channel or where the request waits. */
int worker_main(const struct worker_row *rows, int request_fd, worker_other_fn other);
