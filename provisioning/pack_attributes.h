/* SPDX-License-Identifier: Apache-2.0 */
/* The attributes of files in a tar archive: those that tree_digest.h keeps. */
#pragma once

#include "base/err.h"

struct archive_entry;

/* Adds the attributes of the file or directory `fd` to `entry`; NULL: only looks whether they fit. ERR_HOST names
 * `path`: they are more than a reader takes of one file, or cannot be read. */
MUST_USE struct err *pack_attributes(int fd, const char *path, struct archive_entry *entry);
