/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is deleted goes through two queues, both on disk. The first is the pool's trash: a rename puts things there, and
 * it is all that a deletion waits for. The second is the kernel's: subvolumes that are destroyed and that its cleaner
 * takes apart, block by block, which loads the disk. So it gets a limited number at a time, the oldest first.
 */
#pragma once

#include <stdint.h>

#include "base/err.h"

/* Ids of subvolumes that reclaim_run has destroyed and that the kernel is still at. What containers delete inside is in
 * the kernel's queue as well and is not counted as ours: it must not hold up what the node deletes. Those nested in one
 * of ours are not counted apart. */
struct reclaim_ids {
    uint64_t *id;
    size_t count;
};
void reclaim_ids_clear(struct reclaim_ids *ids);

struct reclaim_state {
    int64_t waiting;   /* in the trash: containers, snapshots, roots, images */
    int64_t reclaimed; /* all subvolumes that the kernel is at, those that containers deleted included */
    int64_t oldest_ms; /* when the oldest in the trash got there, since 1970; 0: it is empty */
    int64_t bytes;     /* what they have written and still hold, of both; -1: not known without simple quotas */
};

/* Where something that is to be deleted is renamed to; the caller frees it. */
char *reclaim_place(const char *pool);
/* Destroys what is in the trash as long as the kernel is at fewer than `most` of ours. `ours`: of earlier runs, and
 * afterwards of all; those that the kernel has finished are taken out. What cannot be destroyed stays and does not keep
 * the rest; the first of these errors is reported after all were tried. */
MUST_USE struct err *reclaim_run(const char *pool, int64_t most, struct reclaim_ids *ours);
MUST_USE struct err *reclaim_read(const char *pool, struct reclaim_state *ret);
enum { RECLAIM_CHARGED_MAX = 10000 };
/* The accounts (quota.h) that the subvolumes of the kernel's queue belong to, the first RECLAIM_CHARGED_MAX of them;
 * *ret is the caller's. */
MUST_USE struct err *reclaim_accounts(const char *pool, uint64_t **ret, size_t *ret_count);
