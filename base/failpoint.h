/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Named places where a test makes the process fail. Compiled in always, armed only by the environment:
 *   NODED_FAILPOINT=create.rootfs=kill       SIGKILL to itself when it gets there
 *   NODED_FAILPOINT=create.rootfs=error      the step returns an error
 *   NODED_FAILPOINT=create.rootfs=sleep:500  waits, in milliseconds (in the worker only; on the loop it is ignored)
 * Several are separated by commas. One lookup of a pointer when nothing is armed.
 */
#pragma once

#include "base/err.h"

/* Once at start, before threads. */
void failpoint_init(void);
/* NULL, or the error to return; may not return. */
MUST_USE struct err *failpoint(const char *name);
