/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the kernel says of a container's resources, from its cgroup: cgroup v2, or v1 controllers on a hybrid host.
 * Short reads of kernel files; any thread.
 */
#pragma once

#include <stdint.h>

#include "base/err.h"

struct cgroup_usage {
    int64_t cpu_ns, memory_bytes, memory_peak_bytes, memory_limit_bytes; /* -1: not known; limit 0: none */
    int64_t swap_bytes, swap_peak_bytes, processes;
};

/* Of the cgroup whose path ends in `suffix` ("noded/c7") and which init_pid is in or below: where the hierarchies hang
 * it is theirs to know. ERR_NOT_FOUND when the process is gone or not there. */
MUST_USE struct err *cgroup_read(int64_t init_pid, const char *suffix, struct cgroup_usage *ret);
