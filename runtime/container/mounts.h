/* SPDX-License-Identifier: Apache-2.0 */
/* What the node mounts into a running container: whether it is seen inside, and how it is mounted again. */
#pragma once

#include "runtime/container/guest.h"

/* What is seen in a place: what the node has mounted, nothing, or something of the container's own. */
enum mounts_sight { MOUNTS_THERE, MOUNTS_LOST, MOUNTS_COVERED };

struct mounts {
    const struct job *job;
    const struct job_mounts *args;
    struct live live;
    json_t *lost, *covered; /* arrays of paths, of the last look */
};

enum { MOUNTS_ROWS = 4 };
/* In this order: a place may be in the one before it. */
extern const struct mounts_row {
    const char *path;
    const struct guest_place *place;
    bool (*wanted)(const struct job_mounts *a);
    char *(*host_path)(const struct mounts *m);
    struct err *(*mount)(struct mounts *m);
} mounts_rows[MOUNTS_ROWS];

/* Shares are at this path, by their ids. */
#define MOUNTS_SHARES "/hoody/shares/"

/* ERR_WRONG_STATE when the container does not run. To be ended whatever comes out. */
MUST_USE struct err *mounts_begin(struct mounts *m, const struct job *job, const struct job_mounts *args);
void mounts_end(struct mounts *m);
/* At all places, shares too; at one; at shares, whose paths are added to those that are lost or covered. */
void mounts_look(struct mounts *m);
enum mounts_sight mounts_look_at(const struct mounts *m, const struct mounts_row *row);
void mounts_look_at_shares(struct mounts *m);
