/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "runtime/job.h"

/* A seeded copy of the subvolume `source` beside the slot's root file system, with that one's ssh host keys. The job
 * sync.swap puts it in its place. */
MUST_USE struct err *sync_make(const struct job *job, const char *source, const json_t *seed);
