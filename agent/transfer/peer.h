/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Other nodes. A copy is made and followed by the node that has it: it fetches what it needs from the source's node,
 * which keeps nothing but who may fetch what (record.sent_copies). Requests and streams are made by jobs
 * (runtime/transfer/peer.h), in sets of workers of their own, so that slow nodes hold up nothing else. Loop thread
 * only.
 */
#pragma once

#include "agent/api/api.h"

struct peers *peers_new(struct agent *a);
size_t peers_count(const struct agent *a); /* requests and streams under way */
void peers_stop(const struct agent *a);    /* streams to others are cut; they may ask again later */
void peers_free(struct agent *a);

/* Whether the configuration has a node of this id. */
bool peer_known(const struct agent *a, const char *id);

/* One request to another node; body (may be NULL) is taken over. done: {"status", "body"}, whatever the answer was, or
 * an error when there was none. ERR_NOT_FOUND: no such node. */
void peer_call(struct agent *a, const char *id, const char *method, const char *path, json_t *body, int64_t timeout_s,
               void *owner, worker_done_fn *done);
/* The error that such an answer is, or NULL. What is wrong between the nodes is no fault of our client's. */
MUST_USE struct err *peer_refusal(const json_t *answer);

/* A step: the operation's container gets its disk from the node args.server, container args.peer_source: JOB_PEER_COPY
 * or JOB_PEER_SYNC. The result becomes op->result. */
void peer_fetch(struct operation *op, enum job_kind kind);
/* The container is gone, or is a copy no more: its source's node is told, once. */
void peer_forget_copy(struct agent *a, const struct container *c);

/* Another node may fetch the container for this copy; server NULL: not any more. */
void peer_promise(struct agent *a, struct container *c, const char *copy, const char *server);

/* POST copy with another node as the target; snapshot: name on disk, or NULL. The call is checked. */
void peer_copy_to(struct api_call *call, const char *server_id, const char *snapshot);
