/* SPDX-License-Identifier: Apache-2.0 */
/* Deletes snapshots whose time has come, looking once a minute. */
#pragma once

#include "agent/agent.h"

struct expiry;

struct expiry *expiry_start(struct agent *a);
void expiry_close(struct expiry *x, void *owner, void (*closed)(void *owner));
