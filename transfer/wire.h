/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What goes over an upgraded connection, and into a file: frames of JSON (base/frame.h), and behind some of them, which
 * have a member "stream", a run of bytes in pieces, with its SHA-256 at the end, which the receiver compares before it
 * uses what it got. The sender may break off anywhere with an error of its own, which the receiver gets as an error.
 *
 * A piece is its length in four bytes, little endian, and so many bytes. In place of a length: 0, the run's end, its
 * SHA-256 follows; WIRE_IDLE, nothing, but the sender is there; WIRE_BROKEN, a frame with an error follows. A length
 * with WIRE_PACKED is of a piece that zstd has made smaller: inflate.h makes the piece of it, a wire takes none of
 * these.
 */
#pragma once

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define WIRE_BROKEN UINT32_MAX
#define WIRE_IDLE (UINT32_MAX - 1)
#define WIRE_PACKED (UINT32_C(1) << 30)
enum { WIRE_PIECE_MAX = 256 * 1024, WIRE_SUM = 32 };

struct wire;

/* The other end keeps the pace of base/pace.h, else ERR_TIMEOUT; a sender that says that he is there gets half an hour.
 */
enum { WIRE_IDLES_MAX = 90 };

struct wire_config {
    int fd;              /* a socket, borrowed */
    const char *other;   /* who is at the other end: "the other node" */
    enum err_code wrong; /* what wrong bytes of his are, */
    enum err_code cut;   /* and an end where more is due */
    bool packed;         /* what is sent may go by zstd */
    int pace_s;          /* struct pace's limit_s */
};

MUST_USE struct err *wire_new(const struct wire_config *config, struct wire **ret);
void wire_free(struct wire *w);
DEFINE_AUTO(struct wire, wire_free)
int64_t wire_bytes(const struct wire *w); /* so far, all of them */

/* SHA-256 of all frames and runs so far, as hex digits: a sender can say it in his last frame. */
enum { WIRE_DIGEST_SIZE = 2 * WIRE_SUM + 1 };
MUST_USE struct err *wire_digest(struct wire *w, char ret[WIRE_DIGEST_SIZE]);

/* Sending. wire_send is a send_sink_fn: the next piece of a run; its owner is the wire. len 0 says that more will come.
 */
MUST_USE struct err *wire_send_frame(struct wire *w, const json_t *j);
MUST_USE struct err *wire_send(void *owner, const void *data, size_t len);
MUST_USE struct err *wire_send_end(struct wire *w);
/* Instead of what is due; best effort. */
void wire_send_error(struct wire *w, const struct err *e);

/* Receiving. sink gets each piece; the run's checksum is right when wire_receive returns without an error. An error of
 * the sender comes with the code `wrong`. */
MUST_USE struct err *wire_receive_frame(struct wire *w, json_t **ret);
typedef struct err *wire_sink_fn(void *owner, const void *data, size_t len);
MUST_USE struct err *wire_receive(struct wire *w, wire_sink_fn *sink, void *owner);
/* Nothing may follow. */
MUST_USE struct err *wire_receive_end(struct wire *w);
