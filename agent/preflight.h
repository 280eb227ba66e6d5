/* SPDX-License-Identifier: Apache-2.0 */
/* Kernel limits that a host full of systemd containers needs: raised when they are lower, reported when that fails. */
#pragma once

#include "base/err.h"

void preflight_limits(void);
