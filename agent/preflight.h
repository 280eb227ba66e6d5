/* SPDX-License-Identifier: Apache-2.0 */
/* What is made to fit the host at a start. Kernel limits that a host full of systemd containers needs: raised when they
 * are lower, reported when that fails. */
#pragma once

#include <stdint.h>

void preflight_limits(void);
/* The size of the connection table, by the host's memory. Conntrack must be loaded: without it, nothing happens. */
void preflight_connections(void);
/* The size of ramdisks: what is wanted, but never more than half the memory. */
int64_t preflight_ramdisk(int64_t wanted);
