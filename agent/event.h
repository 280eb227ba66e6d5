/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Events: what happened, in one order for the whole node. An event is a row that is committed in the same transaction
 * as the change it tells of; it gets its number when that transaction is handed to the store. Commits
 * run in the order in which they were handed over, so numbers and rows agree on the order. Loop thread only.
 */
#pragma once

#include "agent/agent.h"

/* An event about a container: resource_type "container", its id, project and realms. payload passes over, may be NULL.
 * To be called before tx is committed with agent_commit. */
void event_add(struct agent *a, struct store_tx *tx, const char *type, const struct container *c, json_t *payload);
/* About something else; project_id and container_id (both may be NULL) are what it can be found by. */
void event_add_for(struct agent *a, struct store_tx *tx, const char *type, const char *resource_type,
                   const char *resource_id, const char *project_id, const char *container_id, json_t *payload);

/* For agent_commit: numbers the events of a transaction. */
void events_number(struct agent *a, const struct store_tx *tx);

/* Reads where the history stands, begins one in a new database. Before the loop runs. */
MUST_USE struct err *events_load(struct agent *a);
void events_free(struct events *ev);
