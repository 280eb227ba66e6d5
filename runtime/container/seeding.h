/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "runtime/job.h"

/* Seeds a root file system of the job's pool; j is a struct seed in JSON (provisioning/seed.h). */
MUST_USE struct err *seeding(const struct job *job, const char *root, const json_t *j);
/* The end of an import: `made`, a root that is whole, is seeded and gets its name in the slot. header: noded.json. */
MUST_USE struct err *seeding_imported(const struct job *job, const char *made, const struct job_import *a,
                                      const json_t *header);
