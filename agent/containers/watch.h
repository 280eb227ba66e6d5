/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Watches the init of a running container by a pidfd on the loop. When it ends without an operation of ours (a crash,
 * or poweroff or reboot from the inside), a settle operation finds out what became of the container.
 */
#pragma once

#include "agent/agent.h"

/* Notes the init and begins to watch; an older watch of the container ends. */
void watch_start(struct agent *a, struct container *c, int64_t init_pid);
/* The container does not run any more. */
void watch_stop(struct container *c);
/* To be called when an operation has released the container: settles what happened meanwhile. */
void watch_after_operation(struct agent *a, struct container *c);
