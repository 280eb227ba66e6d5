/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is deleted goes through two queues, both on disk. The first is the pool's trash: a rename puts things there, and
 * it is all that a deletion waits for. The second is the kernel's: subvolumes that are destroyed and that its cleaner
 * takes apart, block by block, which loads the disk. So it gets a limited number at a time, the oldest first.
 */
#pragma once

#include <stdint.h>

#include "base/err.h"

struct reclaim_state {
    int64_t waiting;   /* in the trash: containers, snapshots, roots, images */
    int64_t reclaimed; /* subvolumes that the kernel is at */
    int64_t oldest_ms; /* when the oldest in the trash got there, since 1970; 0: it is empty */
    int64_t bytes;     /* what they have written and still hold, of both; -1: not known without simple quotas */
};

/* Where something that is to be deleted is renamed to; the caller frees it. */
char *reclaim_place(const char *pool);
/* Destroys what is in the trash as long as the kernel is at fewer than `most` subvolumes. What cannot be destroyed
 * stays and does not keep the rest; the first of these errors is reported after all were tried. */
MUST_USE struct err *reclaim_run(const char *pool, int64_t most);
MUST_USE struct err *reclaim_read(const char *pool, struct reclaim_state *ret);
