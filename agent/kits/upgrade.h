/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Other kits, or other versions, for a container that is there already. One operation: the ports of both are closed to
 * everybody but the proxy first, then the container gets the kits, and what does not answer in time is undone.
 */
#pragma once

#include "agent/operations/operation.h"

/* What the container is to have, as an array of {"name", "version"}: those of `kits`, or with null and NULL the suite.
 * ERR_INVALID names the field; KIT_NOT_FOUND, KIT_IMAGE. *ret is the caller's. */
MUST_USE struct err *upgrade_target(const struct agent *a, const struct container *c, const json_t *kits, json_t **ret);
/* Whether its kits may be changed now. */
MUST_USE struct err *upgrade_check(const struct container *c);
/* Begins; the container must be free and the kits others than it has. kits is taken over. */
void upgrade_start(struct agent *a, struct container *c, json_t *kits, const char *triggered_by,
                   struct http_request *req, void *owner, void (*done)(struct operation *op, struct err *e));
/* Kits, those before, and what is known of their services. */
json_t *upgrade_report(const struct container *c);
/* The first service of such a list that is not ready, as KIT_UNHEALTHY; NULL: all are. */
MUST_USE struct err *upgrade_unhealthy(const json_t *services);
/* Keeps what a look at services has found: of the kits it tells of, instead of what was known. */
void upgrade_note_health(struct container *c, const json_t *services);
