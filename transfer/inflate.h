/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The packed pieces of a wire become plain ones in a process of its own, which has nothing but the two sockets: what
 * zstd reads was made by somebody else. All else goes through as it is, and is judged behind it.
 */
#pragma once

#include "base/err.h"

/* *ret (the caller's) is a socket with what comes from fd, which is borrowed, to be read with wire_new. A packed piece
 * becomes at most WIRE_PIECE_MAX bytes; one that is damaged, and anything behind the frame with "end", an error there.
 * It ends with the caller's process. */
MUST_USE struct err *inflate_open(int fd, const char *empty_dir, int *ret);
