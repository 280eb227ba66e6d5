/* SPDX-License-Identifier: Apache-2.0 */
/* What peer.c and api/peer.c share. */
#pragma once

#include "agent/transfer/peer.h"

/* A container on its way from or to another node. */
struct transfer {
    struct transfer *next;
    struct agent *agent;
    struct container *container; /* stays while this is there: an operation holds it, or it counts as being copied */
    struct operation *op;        /* NULL: it is sent, not received */
    struct http_upgrade *upgrade;
    int fd; /* of what is sent; -1: none */
    char *server, *operation;
    json_t *request; /* of what is sent: the other node's */
    int64_t bytes, started_at;
};

struct peers {
    struct workers *calls, *sends, *fetches; /* apart, so that none waits for one that waits for it */
    struct transfer *transfers;
};

struct transfer *transfer_begin(struct agent *a, struct container *c, const char *server, const char *operation);
void transfer_end(struct transfer *t);
void transfer_progress(void *owner, int64_t done, int64_t total);
/* Ends a stream to another node; a received one ends with noded. */
void transfer_cut(const struct transfer *t);

/* ERR_FORBIDDEN: the node at the other end is none of the configuration's. */
MUST_USE struct err *peer_check(const struct api_call *call);

void peer_job(struct agent *a, struct workers *set, enum job_kind kind, int64_t slot, const void *args,
              const struct worker_io *io, void *owner, worker_done_fn *done);
