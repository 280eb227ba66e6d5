/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A change of a container's record that a client asked for: recorded in one transaction, then brought into the
 * container part by part, then answered. If it cannot be recorded the record goes back. If it is recorded and a part
 * cannot be brought in, the answer is an error that says so, and the part stays pending (guest.h); for the environment
 * that is no error but said in env_sync.
 */
#pragma once

#include "agent/api/api.h"
#include "agent/containers/guest.h"

struct update {
    struct agent *agent;
    struct http_request *req;
    char *container_id;
    json_t *before;          /* the record as it was */
    int64_t updated_at;      /* of this change */
    bool parts[GUEST_PARTS]; /* what it changes inside */
    int64_t env_revision;    /* of this change */
    enum guest_part next;
    struct err *error;
    void (*reply)(const struct update *u, const struct container *c);
};

/* While the container comes into being or goes, nothing of it can be changed. */
MUST_USE struct err *update_check_state(const struct container *c);
/* To be followed by changes of the record and update_commit. */
struct update *update_new(const struct api_call *call,
                          void (*reply)(const struct update *u, const struct container *c));
/* The record has a new value for a part. */
void update_part(struct update *u, struct container *c, enum guest_part part);
/* Adds the event of a changed environment; values are nobody else's business. */
void update_tell_environment(struct agent *a, struct store_tx *tx, const struct container *c);
/* tx has the change's events and is taken over, like u. */
void update_commit(struct update *u, struct container *c, struct store_tx *tx);
