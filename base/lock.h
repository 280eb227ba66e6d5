/* SPDX-License-Identifier: Apache-2.0 */
/* Locks that end with their holder: a second daemon on the same directory, or with the same names in the kernel, is
 * refused with the name of the first one. */
#pragma once

#include "base/err.h"

/* Locks the file `path` (made with mode 0600 when it is absent) until *ret_fd, the caller's, is closed. `what` names
 * the locked thing in the error, "the state directory '/var/lib/noded'"; `holder` is one line about the caller, which a
 * refused process reads from the file. Waits up to two seconds: the children of a killed holder keep its descriptors
 * until they have ended. ERR_BUSY, with the holder's line, when another process has the lock. */
MUST_USE struct err *lock_file(const char *path, const char *what, const char *holder, int *ret_fd);
/* Reserves a name in the network namespace of the caller, by an abstract socket (unix(7)), under the same rules. A name
 * has at most 100 bytes. */
MUST_USE struct err *lock_name(const char *name, const char *what, int *ret_fd);
