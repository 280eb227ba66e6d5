/* SPDX-License-Identifier: Apache-2.0 */
/* From the database into struct agent, at start, before the loop serves. Both block. */
#pragma once

#include "agent/agent.h"

/* Opens or makes the database, checks it, and reads what the node is. *ret_rebooted: the host has been booted since the
 * last run. *ret_accepted: the hold for which an operator has said that the database is right (recovery.h), the
 * caller's; NULL: none. */
MUST_USE struct err *load_open(struct agent *a, bool *ret_rebooted, char **ret_accepted);
/* Fills the registry. *ret_intents: rows of operations that did not end; the caller's. */
MUST_USE struct err *load_state(struct agent *a, json_t **ret_intents);
/* Records that this boot of the host has been dealt with: to be committed once the starts it calls for have intents. */
struct store_tx *load_boot_seen(void);
