/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Room in the pool, and below it: a loop file that cannot grow any more is a broken disk to the file system inside, so
 * the file system that it lies on counts, too. Also room for the database, and whether the pool is still mounted where
 * it should be. Looked at every second; a change of a state is an event server.health_changed. While what is left is
 * the reserve, nothing is begun that would need more of it: so containers that run can go on, and what makes room
 * (stop, force-stop, delete) has the room to do it. Loop thread only.
 */
#pragma once

#include <sys/statvfs.h>

#include "agent/agent.h"

enum space_state { SPACE_OK, SPACE_LOW, SPACE_FULL, SPACE_MISSING /* another file system is mounted there, or none */ };

struct space *space_start(struct agent *a);
void space_close(struct space *s, void *owner, void (*closed)(void *owner));

/* ERR_HOST with what to do, in the states SPACE_FULL and SPACE_MISSING and when the database has no room; NULL
 * otherwise. */
MUST_USE struct err *space_check(const struct agent *a);
/* {"state", "total_bytes", "free_bytes", "reserve_bytes", "low_percent"}; free: what can still be written. */
json_t *space_json(const struct agent *a);
/* For the health: {"pool", "state_disk": {"state", "free_bytes"}}. */
json_t *space_health(const struct agent *a);
enum space_state space_state(const struct agent *a);
/* Figures of the pool's own file system, whatever is mounted at its path now; false and zeros when it is not open. From
 * the kernel's memory. */
bool space_pool(const struct agent *a, struct statvfs *ret);
