/* SPDX-License-Identifier: Apache-2.0 */
/* How a mounted pool is: what the kernel still has to reclaim, and errors of its device. */
#pragma once

#include <stdint.h>

#include "base/err.h"

struct pool_state {
    int64_t reclaiming; /* subvolumes that are deleted and still have data: the kernel's cleaner is at them */
    int64_t trash;      /* objects moved away and not destroyed yet */
    int64_t write_errors, read_errors, flush_errors, corruption_errors, generation_errors; /* since the pool was made */
};

/* Needs CAP_SYS_ADMIN. */
MUST_USE struct err *pool_state_read(const char *pool, struct pool_state *ret);
