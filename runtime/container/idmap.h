/* SPDX-License-Identifier: Apache-2.0 */
/* Mounts as a container's ids see them. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

/* A user namespace with the id map of the container whose root is the host's id_base, as mount_setattr wants it
 * (MOUNT_ATTR_IDMAP, Linux 5.12). */
MUST_USE struct err *idmap_namespace(int64_t id_base, int *ret_fd);
/* Whether a mount stands at the path; a symlink as last component is not followed. */
bool idmap_is_mount_point(const char *path);
