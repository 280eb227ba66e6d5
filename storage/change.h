/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a snapshot costs: the bytes of file contents that were written between it and the one before. Found by walking
 * only the newer leaves of the snapshot's tree, so the time grows with what was written, not with what is there.
 */
#pragma once

#include <stdint.h>

#include "base/err.h"

/* Bytes in a read-only snapshot of `rootfs` that are newer than `previous`, the one before it (NULL: none; what is no
 * snapshot of the same root, or not there, counts as none), else than the root's making. -1: not known within
 * budget_ms. */
MUST_USE struct err *change_bytes(const char *snapshot, const char *rootfs, const char *previous, int64_t budget_ms,
                                  int64_t *ret_bytes);
