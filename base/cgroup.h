/* SPDX-License-Identifier: Apache-2.0 */
/* Where a cgroup is in the mounted hierarchies, version 1, 2 or both. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#define CGROUP_HIERARCHIES_MAX 32

struct cgroup_places {
    char *path[CGROUP_HIERARCHIES_MAX];
    bool v2[CGROUP_HIERARCHIES_MAX];
    bool tracked[CGROUP_HIERARCHIES_MAX]; /* systemd knows a unit's processes by it: version 2, or name=systemd */
    size_t count;
};

/* The directory of "cgroup/name" below the part of process 1, less its init.scope, as liblxc does it; one for each
 * hierarchy that is mounted. It need not exist. */
void cgroup_places_find(const char *cgroup, const char *name, struct cgroup_places *ret);
void cgroup_places_done(struct cgroup_places *p);
