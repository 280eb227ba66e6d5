/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What containers use of disk and ramdisk, read by a job for all slots at once and kept for a short while: many
 * requests for statistics cost one job. Loop thread only.
 */
#pragma once

#include "agent/agent.h"

struct usage;

struct usage *usage_new(struct agent *a);
void usage_free(struct usage *u);

/* done, which may run from inside the call, gets the result of the job node.usage, at most two seconds old; borrowed,
 * NULL when it cannot be read now. */
void usage_get(struct usage *u, void *owner, void (*done)(void *owner, const json_t *usage));
/* A slot's part of it, or NULL. */
const json_t *usage_of_slot(const json_t *usage, int64_t slot);
