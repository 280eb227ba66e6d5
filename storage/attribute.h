/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Extended attributes on btrfs. One has to fit into a leaf of a tree; of one that does not, the kernel says ENOSPC,
 * however much room there is.
 */
#pragma once

#include <stddef.h>

#include "base/err.h"

/* How many bytes name and value of one may have together, by the size of leaves of fd's file system. */
size_t attribute_max(int fd);
/* For a setxattr of `path` that failed with ENOSPC: ERR_TOO_LARGE when that is why, else NULL: there is no room. */
struct err *attribute_check_size(int fd, const char *path, const char *name, size_t len);
