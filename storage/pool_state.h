/* SPDX-License-Identifier: Apache-2.0 */
/* Errors of a mounted pool's devices. */
#pragma once

#include <stdint.h>

#include "base/err.h"

struct pool_state {
    int64_t write_errors, read_errors, flush_errors, corruption_errors, generation_errors; /* since the pool was made */
};

/* Needs CAP_SYS_ADMIN. */
MUST_USE struct err *pool_state_read(const char *pool, struct pool_state *ret);
