/* SPDX-License-Identifier: Apache-2.0 */
/* A connected, non-blocking socket, with or without TLS around its bytes. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct wire;

enum { WIRE_AGAIN = 0, WIRE_END = -1 };

struct wire_ops {
    /* Bytes that have moved (> 0), WIRE_AGAIN or WIRE_END. *want_write is set when it waits for room to write. */
    ssize_t (*read)(const struct wire *w, void *buf, size_t len, bool *want_write);
    ssize_t (*write)(const struct wire *w, const void *buf, size_t len, bool *want_write);
    void (*finish)(const struct wire *w); /* nothing more will be written */
    void (*free)(const struct wire *w);   /* not the socket */
};

struct wire {
    const struct wire_ops *ops;
    void *tls; /* of tls_wire.h */
    int fd;    /* the owner's to close */
};
