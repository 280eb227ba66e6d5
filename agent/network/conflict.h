/* SPDX-License-Identifier: Apache-2.0 */
/* Other firewalls on the host that drop what containers send or get. They are named with the remedy, in the log, in an
 * event server.health_changed and in the health of the node; nothing of theirs is changed. Loop thread only. */
#pragma once

#include "agent/agent.h"

/* Looks, on the network lane; what is new or gone since the last look is told. */
void conflicts_look(struct agent *a);
/* Another firewall has a chain that drops, also when it makes an exception for us. */
bool conflicts_possible(const struct agent *a);
void conflicts_free(struct conflicts *c);
/* A new reference to the list that drift_json() shows. */
json_t *conflicts_json(const struct agent *a);
