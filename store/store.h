/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The record of what should be: one SQLite database, WAL, synchronous=FULL, one writer. What is, comes from the kernel.
 *
 * A change is a list of statements committed as one transaction: the loop makes the list, the store lane commits it.
 * All functions that take a struct store block and run on one thread at a time (the lane, or the main thread at start).
 */
#pragma once

#include <jansson.h>

#include "base/err.h"
#include "store/statements.h"

struct store;
struct store_tx;

/* Opens or makes the database, checks the pages of all tables but the history's (PRAGMA integrity_check), and
 * brings its schema up to date. A schema newer than this program is refused. Beside the database a file of 8 MiB
 * holds room for commits in a file system that others have filled: it is given up for the first commit that finds
 * none, and made again when there is room. */
MUST_USE struct err *store_open(const char *path, struct store **ret);
/* A second connection that only reads, for another thread: it neither waits for commits nor holds them up, and sees all
 * that was committed before a query begins. The database must have been opened by store_open before. */
MUST_USE struct err *store_open_reader(const char *path, struct store **ret);
/* Checks the pages of the whole database, events and logs included (PRAGMA quick_check): 150 ms for 200 000 events. */
MUST_USE struct err *store_check_history(struct store *s);
void store_close(struct store *s);
DEFINE_AUTO(struct store, store_close)

struct store_tx *store_tx_new(void);
/* A JSON value (taken over) as a text parameter. */
json_t *store_text(json_t *j);
/* Adds a statement; `params` is its array of values in the order of its '?' and is taken over. Strings, integers, null.
 */
void store_tx_add(struct store_tx *tx, enum store_statement statement, json_t *params);
/* Shows the parameters of every statement of one kind, in order; they may be changed until the commit begins. */
void store_tx_each(const struct store_tx *tx, enum store_statement statement, void *owner,
                   void (*each)(void *owner, json_t *params));
void store_tx_free(struct store_tx *tx);
DEFINE_AUTO(struct store_tx, store_tx_free)
/* One statement as a transaction of its own; *ret_rows: how many rows it changed. params is taken over. */
MUST_USE struct err *store_change(struct store *s, enum store_statement statement, json_t *params, int64_t *ret_rows);
/* All or nothing. */
MUST_USE struct err *store_commit(struct store *s, const struct store_tx *tx);

/* Rows as an array of objects by column name; params may be NULL, else is taken over. */
MUST_USE struct err *store_query(struct store *s, enum store_statement statement, json_t *params, json_t **ret_rows);
