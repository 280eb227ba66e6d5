/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Events: what happened, in one order for the whole node. An event is a row that is committed in the same transaction
 * as the change it tells of; it gets its number when that transaction is handed to the store, and is shown when it is
 * on disk. Commits run in the order in which they were handed over, so numbers, rows and readers agree on the order.
 * Loop thread only.
 */
#pragma once

#include "agent/agent.h"
#include "agent/events/cursor.h"

/* An event about a container: resource_type "container", its id, project and realms. payload is taken over, may be
 * NULL. To be called before tx is committed with agent_commit. */
void event_add(struct agent *a, struct store_tx *tx, const char *type, const struct container *c, json_t *payload);
/* About something else; project_id and container_id (both may be NULL) are what it can be found by. */
void event_add_for(struct agent *a, struct store_tx *tx, const char *type, const char *resource_type,
                   const char *resource_id, const char *project_id, const char *container_id, json_t *payload);

/* For agent_commit: numbers the events of a transaction; shows them when it is on disk. */
void events_number(struct agent *a, const struct store_tx *tx);
void events_show(struct agent *a, const struct store_tx *tx);

/* Somebody who is shown every event that is committed from now on, in order: the row as the store has it. One. */
void events_listen(struct agent *a, void (*listener)(struct agent *a, const json_t *row));

/* Reads where the history stands, begins one in a new database. Before the loop runs. */
MUST_USE struct err *events_load(struct agent *a, const char *history, const char *boundary);
void events_free(struct events *ev);

/* The number of the last event on disk, and of the last one that retention has removed (0: none). */
int64_t events_last(const struct agent *a);
int64_t events_boundary(const struct agent *a);
void events_move_boundary(struct agent *a, int64_t seq);
/* The cursor behind an event. */
void events_cursor(const struct agent *a, int64_t seq, char ret[CURSOR_SIZE]);
/* The number that a client's cursor stands for. ERR_INVALID names `field`; ERR_GONE with EVENTS_CURSOR_EXPIRED (what
 * came next is not kept any more) or EVENTS_HISTORY_RESET (it is of another history), and where to go on. */
MUST_USE struct err *events_after(const struct agent *a, const char *field, const char *text, int64_t *ret_seq);
