/* SPDX-License-Identifier: Apache-2.0 */
/* The event object of the API. */
#pragma once

#include "agent/agent.h"

/* Of a row of the table. Reads what never changes only: any thread. */
json_t *event_to_json(const struct agent *a, const json_t *row);
