/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rows of the database as small files in the pool, beside what they describe, so that a node whose database is lost or
 * old knows the containers that it finds:
 *
 *   <pool>/records/node.json                              the pool's identity and its newest generation
 *   <pool>/records/{project,image,share}-<id>.json
 *   <pool>/slots/<slot>/records/{container,firewall,network}.json, snapshot-<name>.json
 *
 * A file is {"statement", "generation", "row": [...], "check"}: the parameters of the statement that writes the row
 * again, and a checksum over the rest. The generation is a number that every such commit raises by one; the database
 * has the newest one, too. A pool with a newer generation than the database has seen commits that the database has not.
 *
 * Files are written after their commit and without fsync, so they may be some commits old, never ahead. The pool's
 * directories belong to root and have mode 0700; like the database, the files contain the credentials of proxies.
 */
#pragma once

#include <stdbool.h>

#include "store/store.h"

/* Which slot a container has; 0: none. */
typedef int64_t mirror_slot_fn(void *owner, const char *container_id);

/* Adds to `files` (an object) the path and the new text of each file that the rows of tx change; null stands for a file
 * that goes. Any thread. */
void mirror_plan(const struct store_tx *tx, int64_t generation, mirror_slot_fn *slot_of, void *owner, json_t *files);
/* The file of the pool's identity. */
void mirror_plan_node(const char *pool_id, const char *node_id, int64_t generation, json_t *files);
/* Whether a commit of tx raises the generation: it changes a mirrored row or an intent. */
bool mirror_concerns(const struct store_tx *tx);
/* Writes and removes files. A slot that has no directory gets none. The first error is reported after all were tried.
 * Blocks. */
MUST_USE struct err *mirror_write(const char *pool, const json_t *files);
/* Takes those files out of `files` whose row is in the pool already, whatever its generation. Blocks. */
void mirror_drop_equal(const char *pool, json_t *files);

struct mirror_node {
    char pool_id[25], node_id[25]; /* "": the pool has no identity */
    int64_t generation;
};
/* ERR_INTERNAL when the file is damaged; a pool without one is no error. Blocks. */
MUST_USE struct err *mirror_read_node(const char *pool, struct mirror_node *ret);
/* The rows of a slot, or of the pool itself (slot 0): an array of {"statement": number, "generation", "row"}, with the
 * container's own row first. Files of another container than that one are left out. *ret_damaged counts files that
 * cannot be believed. Never NULL. Blocks. */
json_t *mirror_read(const char *pool, int64_t slot, size_t *ret_damaged);
