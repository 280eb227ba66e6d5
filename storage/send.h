/* SPDX-License-Identifier: Apache-2.0 */
/* The contents of a read-only subvolume as a stream: what BTRFS_IOC_SEND writes, in version 1 of its format. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/* Takes a piece of a stream; an error ends it. len 0: nothing has come for SEND_IDLE_S seconds, and more may: the
 * kernel compares large trees in silence. */
enum { SEND_IDLE_S = 20 };
typedef struct err *send_sink_fn(void *owner, const void *data, size_t len);

/* Gives the stream of `subvolume` to sink, piece by piece, without what is nested below it. parent (may be NULL) is
 * another read-only subvolume that the receiver has in the same state: the stream is the difference then. Blocks until
 * all is taken; the kernel waits when sink is slow. Needs CAP_SYS_ADMIN. A subvolume that is being sent cannot be
 * deleted. ERR_WRONG_STATE: one of the two is not read-only. */
MUST_USE struct err *send_stream(const char *subvolume, const char *parent, send_sink_fn *sink, void *owner);
/* The same of open ones; parent -1: none. */
MUST_USE struct err *send_stream_at(int subvolume, int parent, send_sink_fn *sink, void *owner);

/* What the stream of a subvolume calls it, as 32 hex digits, and when it was made (ms since the epoch; ret_made may be
 * NULL). False: it is none. */
enum { SEND_NAME_SIZE = 33 };
bool send_name(const char *subvolume, char ret[SEND_NAME_SIZE], int64_t *ret_made);
