/* SPDX-License-Identifier: Apache-2.0 */
/* Lists of snapshots that go along with a container: to a copy, to another node, into an archive. Loop thread only. */
#pragma once

#include "agent/agent.h"

/* An alias is at most so many characters, and a line of text. */
enum { SNAPSHOT_ALIAS_MAX = 100 };
bool snapshot_alias_ok(const char *alias);

/* All snapshots of a container as an array of snapshot_table's objects; their names alone. The caller's. */
json_t *snapshots_save(const struct container *c);
json_t *snapshots_names(const json_t *list);

/* Such a list that somebody else has written. ERR_INVALID with `field`, and says which one is wrong. */
MUST_USE struct err *snapshots_check(const char *field, const json_t *list);
/* Into the registry and tx. The list is checked, or our own. came: names of those whose subvolumes are there; NULL: all
 * are. */
void snapshots_adopt(struct container *c, struct store_tx *tx, const json_t *list, const json_t *came);
