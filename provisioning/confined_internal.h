/* SPDX-License-Identifier: Apache-2.0 */
/* Only for confined*.c and live.c. */
#pragma once

#include <stdint.h>

#include "provisioning/confined.h"

/* openat2 with O_CLOEXEC, asked again when the kernel says so; resolve: RESOLVE_... The fd, or -1 and errno. */
int confined_open_how(int root, const char *path, int flags, uint64_t resolve);
/* As confined_read, of a place that is open with O_PATH already; path is for the error's text. */
MUST_USE struct err *confined_read_place(int place, const char *path, size_t max, char **ret_text, size_t *ret_len);
