/* SPDX-License-Identifier: Apache-2.0 */
/* What a job writes, as the body of a reply: as fast as the client takes it, nothing is kept. Loop thread only. */
#pragma once

#include "agent/agent.h"

/* Runs the job with a stream of its own and answers the request: with 200 and the bytes from the first one on, or with
 * the job's error when it fails before. When it fails later the connection is cut, so that the client sees that the
 * body is not whole. done runs once, when the job is over; e is borrowed, NULL is success. */
void download_start(struct agent *a, struct http_request *req, const char *content_type, enum job_kind kind,
                    int64_t slot, const void *args, void *owner, void (*done)(void *owner, const struct err *e));
