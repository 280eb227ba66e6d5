/* SPDX-License-Identifier: Apache-2.0 */
/* A file as a block device. The device frees itself when its last user (the mount) is gone. */
#pragma once

#include <stdbool.h>

#include "base/err.h"

/* Attaches the file with direct I/O, or finds the device it is attached to already: two devices with one file system
 * would damage it. *ret_fd keeps the device alive until it is mounted; *ret_device is the caller's.
 */
MUST_USE struct err *loop_attach(const char *file, int *ret_fd, char **ret_device);
/* Whether this device was attached by loop_attach (of any process, at any time). */
bool loop_is_ours(const char *device);
