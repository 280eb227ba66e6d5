/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Putting something new into a directory of the pool (kits/, images/): one process at a time, made under a temporary
 * name, renamed when whole. Whoever holds the lock may remove everything half-made.
 */
#pragma once

#include "base/err.h"

/* Makes the directory, waits for its lock, removes what interrupted installs left. Closing *ret_fd unlocks. */
MUST_USE struct err *install_begin(const char *pool, const char *dir, int *ret_fd);
/* Makes the subvolume `temporary` read-only and durable and gives it its name. */
MUST_USE struct err *install_finish(const char *temporary, const char *final);
