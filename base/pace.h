/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How slow the other end of a stream may be. Whoever he is, while he sends or takes bytes a container is held and
 * others wait for the worker. So a side that gives or takes nothing for PACE_STALL_S is gone, and one that lets less
 * than PACE_BYTES pass in PACE_S of waiting for it is too slow, however it spreads them. Our own time does not count.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum { PACE_STALL_S = 120, PACE_S = 300, PACE_BYTES = 4 << 20, PACE_GRACE_S = 10 };

struct pace {
    int fd;            /* borrowed, after pace_limits */
    const char *other; /* who is at the other end: "the other node" */
    int limit_s;       /* instead of PACE_S; 0: that */
    int64_t waited_us, moved;
};

/* The socket blocks, for PACE_STALL_S at most, or for timeout_s if that is longer. */
MUST_USE struct err *pace_limits(int fd, int64_t timeout_s);
/* One read of what is there; *ret 0: the end. Writing takes all. ERR_TIMEOUT: silent or too slow; ERR_CANCELLED:
 * nobody is there to write to. */
MUST_USE struct err *pace_read(struct pace *p, void *data, size_t len, size_t *ret);
MUST_USE struct err *pace_write(struct pace *p, const void *data, size_t len);
/* How long a side may take for so many bytes that are to be had at once, such as the body of a request: PACE_GRACE_S,
 * and then the rate of PACE_BYTES in PACE_S. */
int64_t pace_allowed_ms(size_t bytes);
/* The error of a side that is too slow. */
MUST_USE struct err *pace_too_slow(const struct pace *p);
