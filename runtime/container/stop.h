/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "runtime/job.h"

/* Removes what a container leaves when all of it has ended: cgroups and the mount of its root. */
MUST_USE struct err *stop_clean(const struct job *job);

/* Ends the container: asks init and waits timeout_ms, then kills; 0 kills at once. Returns when liblxc's
 * monitor is gone and stop_clean is done. Not running is success. */
MUST_USE struct err *stop_container(const struct job *job, int64_t timeout_ms);
