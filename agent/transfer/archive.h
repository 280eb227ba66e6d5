/* SPDX-License-Identifier: Apache-2.0 */
/* A container's description in its archive (noded.json of provisioning/container_archive.h): what of the record goes
 * along, and what of it is taken over from an archive that somebody else may have written. Loop thread only. */
#pragma once

#include "agent/agent.h"

/* The caller's. only: a snapshot that takes the root's place, or NULL; snapshots: all go along. */
json_t *archive_header(const struct agent *a, const struct container *c, const struct snapshot *only, bool snapshots);
/* Everything that archive_adopt would take is right; ERR_INVALID names the member. */
MUST_USE struct err *archive_check(const json_t *header);
/* After archive_check: fills the record, adds the snapshots with their rows; kits are those of this node's suite. The
 * name is taken when `rename` says so and nobody in the project has it. */
void archive_adopt(struct agent *a, struct container *c, struct store_tx *tx, const json_t *header, bool rename);
