/* SPDX-License-Identifier: Apache-2.0 */
/* What rollout.c, which goes through the list, and rollout_record.c, which keeps and shows how far it is, share. */
#pragma once

#include "agent/kits/rollout.h"

enum rollout_state {
    ROLLOUT_RUNNING,
    ROLLOUT_STOPPING,
    ROLLOUT_FAILING, /* up to here it is under way */
    ROLLOUT_COMPLETED,
    ROLLOUT_STOPPED,
    ROLLOUT_FAILED,
    ROLLOUT_INTERRUPTED,
};

struct rollout {
    struct agent *agent;
    struct rollout_request request; /* containers: those that wait */
    int state;                      /* enum rollout_state */
    int64_t total, started_at, ended_at;
    json_t *results;
    json_t *active; /* those under way: id -> the kits that it gets */
    json_t *undo;   /* ids that go back after a failure; NULL: it has not come to that */
    int64_t restarts;
    bool resumed;    /* some of the active ones began before a restart */
    bool unrecorded; /* something has happened since it was written down */
};

static inline bool rollout_is_under_way(const struct rollout *r)
{
    return r && r->state <= ROLLOUT_FAILING;
}
/* Writes it down, with an event of this type or NULL. */
void rollout_record(struct rollout *r, const char *event, void *owner, agent_done_fn *done);
