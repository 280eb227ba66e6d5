/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Compare and repair: the record against what node.inventory found on disk and in the kernel. Nothing that runs is
 * stopped for the sake of a restart of noded.
 */
#pragma once

#include "agent/agent.h"

/* Before the network is synced: adopts what runs, corrects statuses, begins the removal of what belongs to nobody. */
void reconcile_adopt(struct agent *a, const json_t *inventory, const json_t *intents, bool rebooted);
/* After the network is synced: repeats or unwinds unfinished operations, starts what the host's boot should start. */
void reconcile_resume(struct agent *a, const json_t *intents, bool rebooted);
