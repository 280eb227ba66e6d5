/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frames between noded and noded-worker: 4 bytes length (little endian), then that many bytes of JSON. One request,
 * then any number of progress frames {"progress": {...}}, then one result frame {"ok": ...} or {"error": {...}}.
 */
#pragma once

#include <stdint.h>

#include "base/err.h"

#define FRAME_MAX (8u * 1024 * 1024)

static inline uint32_t frame_load_length(const unsigned char p[4])
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static inline void frame_store_length(unsigned char p[4], uint32_t len)
{
    for (int i = 0; i < 4; i++)
        p[i] = (unsigned char)(len >> (8 * i));
}

/* Blocking send and receive, for the worker. A closed peer is ERR_CANCELLED. */
MUST_USE struct err *frame_send(int fd, const json_t *j);
MUST_USE struct err *frame_receive(int fd, json_t **ret);

/* Incremental reading, for the loop: feed bytes, take whole frames. */
struct frame_reader {
    char *buf;
    size_t len, size;
};
/* Copies bytes in. ERR_TOO_LARGE when the announced length passes FRAME_MAX. */
MUST_USE struct err *frame_reader_feed(struct frame_reader *r, const char *data, size_t len);
/* *ret = next frame (the caller's) or NULL when none is complete. */
MUST_USE struct err *frame_reader_next(struct frame_reader *r, json_t **ret);
void frame_reader_done(struct frame_reader *r);
