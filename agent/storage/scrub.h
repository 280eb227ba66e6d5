/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Care for what lies in the pool: all of it is read and compared with its checksums, now and then or when an operator
 * says so, in parts of some seconds; and the errors that its devices count are watched. Where it has got to is in the
 * database, so that it goes on after a restart. Loop thread only.
 */
#pragma once

#include "agent/agent.h"

/* text: the record in the database; NULL: none. */
struct scrub *scrub_new(struct agent *a, const char *text);
void scrub_free(struct scrub *s);
void scrub_start(struct scrub *s); /* the pool is there */
void scrub_close(struct scrub *s, void *owner, void (*closed)(void *owner));

/* From the beginning; ERR_CONFLICT when it is under way. done (may be NULL): it is recorded; not called on an error of
 * the call itself. */
MUST_USE struct err *scrub_begin(struct scrub *s, void *owner, agent_done_fn *done);
/* After the part that is under way. ERR_WRONG_STATE when nothing is. */
MUST_USE struct err *scrub_cancel(struct scrub *s, void *owner, agent_done_fn *done);
/* {"state", "started_at", "ended_at", "done_bytes", "total_bytes", "errors", "corrected", "problem"} */
json_t *scrub_json(const struct scrub *s);
