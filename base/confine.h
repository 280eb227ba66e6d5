/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For a child process that is about to meet bytes of strangers: it gives up what it does not need, for good. The caller
 * is the only thread, runs as root, and decides himself which file descriptors stay open (fd_keep_only).
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

/* This directory becomes "/" and the current one. */
MUST_USE struct err *confine_root(int dir);

struct confinement {
    uint64_t rights; /* of root's, as bits of linux/capability.h, that it keeps */
    bool nobody;     /* becomes that account, which has no rights */
    unsigned files;  /* that it may have open; 0: as many as before */
};

/* It dies with its parent, dumps no core, cannot be traced, and no program that it starts gets a right back. */
MUST_USE struct err *confine(const struct confinement *c);
