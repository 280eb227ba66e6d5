/* SPDX-License-Identifier: Apache-2.0 */
/* The pool: a mounted btrfs. Either the operator's own, or a loop file that is made, formatted and mounted here. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

struct pool_info {
    int64_t total_bytes, free_bytes;
    char *loop_device; /* "/dev/loop3", or NULL; free with pool_info_done */
};

/* Mounts when needed. loop_file NULL: `pool` must be on btrfs already. A loop file that is smaller than loop_bytes is
 * grown, never shrunk. An absent one is made and formatted; with must_exist that is ERR_NOT_FOUND instead. Nothing in a
 * file system that exists is changed. *ret_mounted: it was not mounted before. Repeatable. */
MUST_USE struct err *pool_open(const char *pool, const char *loop_file, int64_t loop_bytes, bool must_exist,
                               bool *ret_mounted);
/* Makes the directories of an open pool. Repeatable. */
MUST_USE struct err *pool_prepare(const char *pool);
/* Lets the file and the file system in it grow to so many bytes, while it is in use. ERR_INVALID, field "size_bytes":
 * the file is larger already, or the file system that it is on is smaller; ERR_WRONG_STATE: the pool is not mounted
 * from it. A crash in between is completed by the next pool_open. */
MUST_USE struct err *pool_grow(const char *pool, const char *loop_file, int64_t bytes);
/* Unmounts what pool_open mounted; an operator's own mount stays. ERR_WRONG_STATE while a process uses it. Other mounts
 * of what is in the pool (containers' roots) do not hold it: the caller looks for those. */
MUST_USE struct err *pool_close(const char *pool);

MUST_USE struct err *pool_stat(const char *pool, struct pool_info *ret);
void pool_info_done(struct pool_info *info);
