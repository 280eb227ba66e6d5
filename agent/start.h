/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From nothing to serving, step by step on the loop: database, pool, inventory, new images and kits, network,
 * listeners, unfinished operations. Failing means that the daemon ends; nothing it began needs undoing.
 */
#pragma once

#include "agent/agent.h"

/* config is taken over. done runs once, on the loop; then the agent serves, or e says why it cannot. */
struct agent *agent_start(uv_loop_t *loop, struct config *config, http_handler_fn *handler, void *owner,
                          agent_done_fn *done);
/* Lets operations end (for a while), stops serving, then runs closed. The containers go on. */
void agent_stop(struct agent *a, void *owner, void (*closed)(void *owner));
void agent_free(struct agent *a);
