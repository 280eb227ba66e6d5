/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a container has from its record inside: environment, ssh key, ramdisk. A change is recorded first and applied
 * afterwards, by a job. Every part counts its changes (revision) and says which one is in effect (applied revision);
 * while they differ the part is pending: it is tried again whenever an operation of the container ends and when noded
 * starts, and a start of the container brings everything. The environment of a container that does not run waits for
 * its start, because only there can it be read back from inside.
 */
#pragma once

#include "agent/agent.h"

enum guest_part { GUEST_ENVIRONMENT, GUEST_SSH_KEY, GUEST_RAMDISK, GUEST_PARTS };

enum { GUEST_ATTEMPTS_MAX = 5 }; /* of writing one revision of the environment, until the next change or start */

bool guest_is_pending(const struct container *c, enum guest_part part);
bool guest_is_exhausted(const struct container *c);

/* The record has another value now; to be recorded by the caller. */
void guest_changed(struct container *c, enum guest_part part);
/* The root was replaced by an older one: all that is in files is to be written again. */
/* A new container: its first start reads back what it has. */
void guest_new(struct container *c);
void guest_files_lost(struct container *c);
/* The container has another mount namespace than the one that was changed. */
void guest_mounts_lost(struct container *c);

/* Applies what is recorded. done gets what went wrong with that; held off by an operation, or without a root or a
 * running container to apply it to, it is no error and stays pending. Changes of one part are applied in order. */
void guest_apply(struct agent *a, struct container *c, enum guest_part part, void *owner, agent_done_fn *done);
/* Whether an operation holds it that changes its root, mounts or processes. */
bool guest_is_held(const struct container *c);
/* Tries again what is pending, for nobody in particular. */
void guest_retry(struct agent *a, struct container *c);

/* The project whose ramdisk the container shares; NULL: none. */
char *guest_ramdisk_project(const struct container *c);
/* Ends shared ramdisks that no container has any more: of one project, or with NULL of all. */
void guest_drop_ramdisks(struct agent *a, const char *project_id);
/* For a start. The pending files for the job, NULL when there are none; ret_revisions: what it will bring. */
json_t *guest_start_files(const struct container *c, int64_t ret_revisions[GUEST_PARTS]);
/* Notes what the start brought, by the job's result. */
void guest_started(struct agent *a, struct container *c, const int64_t revisions[GUEST_PARTS], const json_t *result);
