/* SPDX-License-Identifier: Apache-2.0 */
/* From the database into struct agent, at start, before the loop runs. */
#pragma once

#include "agent/agent.h"

/* Opens the database and fills the registry. *ret_rebooted: the host has been booted since the last run. *ret_intents:
 * rows of operations that did not end; the caller's. */
MUST_USE struct err *load_state(struct agent *a, bool *ret_rebooted, json_t **ret_intents);
/* Records that this boot of the host has been dealt with: to be committed once the starts it calls for have intents. */
struct store_tx *load_boot_seen(void);
