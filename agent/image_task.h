/* SPDX-License-Identifier: Apache-2.0 */
/* Work on images that takes a while and that nobody has to wait for: what goes on, and how it ended. Kept in memory:
 * who asks after a restart finds the image, or not. Loop thread only. */
#pragma once

#include "agent/agent.h"

/* An array of the tasks, the newest first. */
json_t *image_tasks_json(const struct agent *a);
