/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What goes over an upgraded connection: frames of JSON (base/frame.h), and behind some of them a run of bytes in
 * pieces, with its SHA-256 at the end, which the receiver compares before it uses what it got. The sender may break off
 * anywhere with an error of its own, which the receiver gets as an error.
 */
#pragma once

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct wire;

/* fd is borrowed. */
MUST_USE struct err *wire_new(int fd, struct wire **ret);
void wire_free(struct wire *w);
DEFINE_AUTO(struct wire, wire_free)
int64_t wire_bytes(const struct wire *w); /* so far, all of them */

/* Sending. wire_send is a send_sink_fn: the next piece of a run; its owner is the wire. len 0 says that more will come.
 */
MUST_USE struct err *wire_send_frame(struct wire *w, const json_t *j);
MUST_USE struct err *wire_send(void *owner, const void *data, size_t len);
MUST_USE struct err *wire_send_end(struct wire *w);
/* Instead of what is due; best effort. */
void wire_send_error(struct wire *w, const struct err *e);

/* Receiving. sink gets each piece; the run's checksum is right when wire_receive returns without an error. An error of
 * the sender comes as ERR_HOST. */
MUST_USE struct err *wire_receive_frame(struct wire *w, json_t **ret);
typedef struct err *wire_sink_fn(void *owner, const void *data, size_t len);
MUST_USE struct err *wire_receive(struct wire *w, wire_sink_fn *sink, void *owner);
