/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A change of kits for many containers: some at a time, in their order, until one fails. One rollout at a time; the
 * last one stays to be looked at. What each container goes through is an operation of its own (upgrade.h), with all its
 * promises; the rollout is only the list. It is recorded as it goes, and goes on after a restart of noded; after the
 * third one in a row without a result it stays as "interrupted" - asked for again, it passes over those that are done.
 * Loop thread only.
 */
#pragma once

#include "agent/agent.h"

struct rollout_request {
    json_t *kits;       /* array of {"name", "version"} for all; NULL: the suite */
    bool rollback;      /* what each had before, instead */
    bool undo;          /* when one fails, those that were changed go back as well */
    int64_t parallel;   /* at the same time */
    json_t *containers; /* ids, in order */
};

/* done: when it is recorded, and begins; or what went wrong with that, then there is none. Passes over the members.
 * ERR_CONFLICT while another one runs; done is not called then. */
MUST_USE struct err *rollout_start(struct agent *a, const struct rollout_request *r, void *owner, agent_done_fn *done);
/* Begins no more; what is under way ends. done: when that is recorded. ERR_WRONG_STATE when none runs, without done. */
MUST_USE struct err *rollout_stop(struct agent *a, void *owner, agent_done_fn *done);
/* How far the last one is; NULL when there was none. */
json_t *rollout_report(const struct agent *a);
/* From the text that was recorded (may be NULL). */
void rollout_load(struct agent *a, const char *text);
/* Goes on with one that was under way, once the operations of then are repeated. */
void rollout_resume(struct agent *a);
/* An operation has ended: perhaps the one that a resumed rollout waits for. */
void rollout_after_operation(struct agent *a);
void rollout_free(struct agent *a);
