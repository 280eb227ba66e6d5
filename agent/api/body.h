/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The JSON of a request's body. A small one is parsed at once; to parse two megabytes takes the loop 50 to 250 ms, in
 * which it answers nobody, so a large one is parsed on a lane of its own.
 */
#pragma once

#include "agent/api/api.h"

/* Bytes that are parsed at once, and values that a body of any length may have. */
enum { API_BODY_AT_ONCE = 32768, API_BODY_VALUES = 20000 };

/* *ret (the caller's) is the value, or NULL for an absent one or null. Any thread. */
MUST_USE struct err *api_body_parse(const char *text, size_t len, json_t **ret);
/* Later, on the loop: done(a, req, body, e); both are done's. The request has not been answered. */
typedef void api_parsed_fn(struct agent *a, struct http_request *req, json_t *body, struct err *e);
void api_body_parse_later(struct agent *a, struct http_request *req, api_parsed_fn *done);
