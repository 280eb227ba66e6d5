/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a proxy needs to know of the containers, and the stream of its changes: the whole map first, then what changed.
 * A reader that does not keep up gets the whole map again. Loop thread only.
 */
#pragma once

#include "agent/agent.h"

struct feed;

struct feed *feed_start(struct agent *a);
void feed_close(struct feed *f, void *owner, void (*closed)(void *owner)); /* its streams must have ended */

/* {"revision", "node_id", "routes": [...]}; the text is the caller's. */
char *feed_map(const struct agent *a);
/* A container's entry in it. */
json_t *feed_route(const struct agent *a, const struct container *c);
/* Answers the request with the stream. */
void feed_stream(struct feed *f, struct http_request *req);
