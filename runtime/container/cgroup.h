/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A container's cgroups, in every hierarchy of the host: version 1, version 2 or both. Read and written as files, not
 * through liblxc: this works when its monitor hangs or is gone. Payload: <cgroup>/c<slot>, monitor: <cgroup>/m<slot>.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

/* The processes directly in <cgroup>/<name> of the first hierarchy that has any; 0-terminated, the caller frees it. */
pid_t *cgroup_pids(const char *cgroup, const char *name);

/* Takes the calling process out of <cgroup>/<name>, to a place beside or above it. */
void cgroup_leave(const char *cgroup, const char *name);

/* Thaws every cgroup below the container's in the version 1 freezer, where a frozen process dies of no signal. Its root
 * freezes and thaws there as it likes (docker pause does), and thawing the container's own leaves those as they are. In
 * version 2 a frozen process can be killed. */
void cgroup_thaw_inside(const char *cgroup, const char *name);
/* SIGKILL for all processes in it; in version 2 also for all below. None is fine. */
void cgroup_kill(const char *cgroup, const char *name);

/* Stops or continues all processes; waits until the kernel says so, at most timeout_ms. */
MUST_USE struct err *cgroup_freeze(const char *cgroup, const char *name, bool frozen, int64_t timeout_ms);
bool cgroup_is_frozen(const char *cgroup, const char *name);

bool cgroup_exists(const char *cgroup, const char *name);
/* Removes it with all below, bottom-up, in every hierarchy. Waits a moment for dying processes. Missing is fine. */
MUST_USE struct err *cgroup_remove(const char *cgroup, const char *name);
