/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Live streams of events. A reader is either live, and gets every event as it is committed, or it catches up from the
 * store, page by page as fast as it takes them; between the two there is neither a gap nor a double, because both go by
 * the events' numbers. A live reader for whom too many wait is told so and catches up. Loop thread only.
 */
#pragma once

#include "agent/events/filter.h"

struct event_streams;

struct event_streams *event_streams_start(struct agent *a);
void event_streams_free(struct event_streams *set); /* its streams must have ended */

/* Answers the request with what comes behind event number `after`. f is taken over. */
void event_stream_begin(struct event_streams *set, struct http_request *req, int64_t after, struct event_filter *f);
