/* SPDX-License-Identifier: Apache-2.0 */
/* One daemon for each state directory, run directory, pool, cgroup, firewall table and interface prefix. */
#pragma once

#include "agent/config.h"

struct locks {
    int state, run, cgroup, table, links; /* descriptors; -1: not locked */
    int pool;                             /* the file in the pool: also tells the pool from another file system */
};
#define LOCKS_NONE                                                                                                     \
    {                                                                                                                  \
        -1, -1, -1, -1, -1, -1                                                                                         \
    }

/* Locks everything but the pool, before any of it is changed. Makes the two directories when they are absent. ERR_BUSY
 * names what is in use and by whom. What was locked stays locked after an error, until locks_release. */
MUST_USE struct err *locks_take(const struct config *c, struct locks *l);
/* Locks the mounted pool; repeatable: a lock of a pool that was mounted before is given up. */
MUST_USE struct err *locks_take_pool(const struct config *c, struct locks *l);
void locks_release(struct locks *l);
