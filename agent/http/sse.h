/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Server-sent events (text/event-stream of the HTML standard): a bounded number of streams in all and for
 * each client, a comment every 15 seconds
 * so that both sides notice a dead connection, all ended when the daemon stops. Loop thread only.
 */
#pragma once

#include "agent/agent.h"

#define SSE_CONTENT_TYPE "text/event-stream"

struct sse_set;
struct sse;

/* Each kind has places of its own, so that readers of events take none from proxies. */
enum sse_kind { SSE_EVENTS, SSE_ROUTES };

struct sse_config {
    enum sse_kind kind;
    void *owner;
    void (*drained)(void *owner); /* the client has taken all; sending is allowed in it */
    void (*gone)(void *owner);    /* once: the client has left, or the daemon stops */
};

struct sse_set *sse_start(struct agent *a);
/* Ends all streams; `closed` runs when the memory is freed. */
void sse_close(struct sse_set *set, void *owner, void (*closed)(void *owner));

/* Answers the request. NULL when there are too many streams (503), too many of this client (429), or the client has
 * left: it is answered, nothing is called. */
struct sse *sse_begin(struct sse_set *set, struct http_request *req, const struct sse_config *config);
/* id may be NULL; data is one line. */
void sse_send(struct sse *s, const char *id, const char *event, const char *data);
/* How many events the client has not taken; 0 after `drained`. */
size_t sse_waiting(const struct sse *s);
/* Ends the stream behind what waits; its owner is not called any more. */
void sse_end(struct sse *s);
