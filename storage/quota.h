/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How much a subvolume has written: btrfs simple quotas (Linux 6.7 and later). They charge an extent to the subvolume
 * that wrote it, for as long as it exists, so they cost next to nothing; full qgroups, which follow who shares what,
 * are never switched on. The kernel's numbers are those of its last transaction, up to 30 seconds old.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

/* Switches them on for the file system of `pool`; a kernel that has none changes nothing, and that is no error. */
MUST_USE struct err *quota_enable(const char *pool);
bool quota_is_on(const char *pool);
/* Bytes charged to the subvolume. -1 when simple quotas are off, or do not know it yet. */
MUST_USE struct err *quota_usage(const char *subvolume, int64_t *ret_bytes);
