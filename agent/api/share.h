/* SPDX-License-Identifier: Apache-2.0 */
/* What the source's and the receiver's view of shares have in common. */
#pragma once

#include "agent/api/api.h"
#include "agent/containers/share.h"

/* As its source sees it. */
json_t *share_to_json(const struct agent *a, const struct share *s);
/* As a receiver does; NULL: as any of them. */
json_t *share_to_incoming_json(const struct agent *a, const struct share *s, const struct container *receiver);
/* The share of a path parameter; 400 for what is no id, 404 when there is none. */
MUST_USE struct err *api_find_share(const struct api_call *call, const char *id, struct share **ret);
