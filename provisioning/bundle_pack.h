/* SPDX-License-Identifier: Apache-2.0 */
/* A kit's files as its payload: a tar of sorted names, without owners and times, in many zstd frames. Only for
 * bundle*.c. */
#pragma once

#include <stdint.h>

#include "base/err.h"

#define BUNDLE_SHA256_SIZE 65

/* Writes the payload of a directory to out_fd. ERR_INVALID names the file that cannot be in a kit; ERR_TOO_LARGE. */
MUST_USE struct err *bundle_pack(int tree_fd, int out_fd, char ret_sha256[BUNDLE_SHA256_SIZE], int64_t *ret_size);
