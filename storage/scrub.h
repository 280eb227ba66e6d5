/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading everything that is in the pool, and comparing it with its checksums (BTRFS_IOC_SCRUB). Done extent of the
 * device by extent - up to 1 GiB each - so that it can be left and gone on with at any time. What has a second copy, as
 * metadata has, is repaired.
 */
#pragma once

#include <stdint.h>

#include "base/err.h"

struct scrub_part {
    int64_t devid, next;       /* where to go on; devid 0: all is done */
    int64_t bytes;             /* of extents that were read */
    int64_t total_bytes;       /* of all extents of all devices */
    int64_t errors, corrected; /* places that were wrong, and those of them that are right again */
};

/* From (devid, next), 0 and 0 for the begin; ends after the extent in which budget_ms are over. rate: bytes a second,
 * 0: as fast as it goes; it stays set for the devices (Linux 5.14). */
MUST_USE struct err *scrub_run(const char *pool, int64_t devid, int64_t next, int64_t rate, int64_t budget_ms,
                               struct scrub_part *ret);
