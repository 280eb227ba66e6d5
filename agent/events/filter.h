/* SPDX-License-Identifier: Apache-2.0 */
/* Which events a client asks for: the query parameters of the events API, and the statements that look them up. */
#pragma once

#include "agent/api/api.h"

/* The members that are words: NULL when not asked for. */
#define EVENT_FILTER_MAP(X) X(event_type) X(resource_type) X(resource_id) X(project_id) X(container_id) X(realm_id)

struct event_filter {
#define X(name) char *name;
    EVENT_FILTER_MAP(X)
#undef X
    int64_t start, end; /* ms, both included; before_date is an end that is not */
    bool any;           /* one of them was given */
};

/* Places of the statements of one family, in the order of EVENT_STATEMENTS. */
enum event_statement {
    EVENT_TIME_DESC,
    EVENT_TIME_ASC,
    EVENT_TYPE_DESC,
    EVENT_TYPE_ASC,
    EVENT_COUNT,
    EVENT_DELETE,
    EVENT_FAMILY_SIZE
};

/* From the query, or for DELETE from the body. ERR_INVALID names the parameter; INVALID_DATE_RANGE. On error f needs no
 * clear. */
MUST_USE struct err *event_filter_load(const struct api_call *call, struct event_filter *f);
/* The same for a deletion, which must not delete more than its client meant: an unknown filter, a filter without a
 * value, one that is no string, and one that is given twice are ERR_INVALID, INVALID_BULK_DELETE_PARAMS. */
MUST_USE struct err *event_filter_load_strict(const struct api_call *call, struct event_filter *f);
void event_filter_clear(struct event_filter *f);
/* The name of the first filter that a request has, or NULL. */
const char *event_filter_given(const struct api_call *call);
/* The same of the filters by time. */
const char *event_filter_time_given(const struct api_call *call);

/* The statement of the family whose index fits best, and its first eight parameters. */
enum store_statement event_filter_statement(const struct event_filter *f, enum event_statement which);
json_t *event_filter_params(const struct event_filter *f);
/* The same for a row at hand; times are not looked at. */
bool event_filter_matches(const struct event_filter *f, const json_t *row);
