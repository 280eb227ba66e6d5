/* SPDX-License-Identifier: Apache-2.0 */
/* Snapshots as clients name them, and lists of them that go along with a container: to a copy, to another node, into an
 * archive. Loop thread only. */
#pragma once

#include "agent/agent.h"

/* An alias is at most so many characters, and a line of text. */
enum { SNAPSHOT_ALIAS_MAX = 100 };
bool snapshot_alias_ok(const char *alias);

/* The one of this name, else of this alias. ERR_NOT_FOUND with RESOURCE_NOT_FOUND; ERR_CONFLICT with DUPLICATE_ALIAS:
 * more than one has it, and a guess could be the wrong one. field (may be NULL): where the client said it. */
MUST_USE struct err *snapshot_find(const struct container *c, const char *field, const char *text,
                                   struct snapshot **ret);

/* ERR_CONFLICT when the snapshot is not in the pool; s may be NULL. */
MUST_USE struct err *snapshot_check_present(const struct snapshot *s);

/* All snapshots of a container as an array of snapshot_table's objects; their names alone. The caller's. */
json_t *snapshots_save(const struct container *c);
json_t *snapshots_names(const json_t *list);

/* Such a list that somebody else has written. ERR_INVALID with `field`, and says which one is wrong. */
MUST_USE struct err *snapshots_check(const char *field, const json_t *list);
/* Into the registry and tx. The list is checked, or our own. came: names of those whose subvolumes are there; NULL: all
 * are. */
void snapshots_adopt(struct container *c, struct store_tx *tx, const json_t *list, const json_t *came);
