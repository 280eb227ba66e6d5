/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The other end of send.h: a subvolume from a stream that may be anybody's. A child process applies it that has left
 * itself nothing but the new subvolume, its parent and the pipe: its root directory is the subvolume, and of root's
 * rights it keeps those that the owners and modes of files need. Who feeds it counts and compares checksums.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "storage/send_format.h"

struct receive_limits {
    int64_t bytes;   /* of the stream, at most; everything that it can write is in it, so this bounds the disk, too */
    int64_t reserve; /* bytes of the file system that must stay free */
};

struct receive_info {
    unsigned char uuid[SEND_UUID_SIZE]; /* the subvolume's at the sender */
    uint64_t transid;
};

struct receiver;

/* A fresh subvolume `name` in dir (a file descriptor; borrowed), empty, or as `parent` is (likewise; -1: none) without
 * the subvolumes nested below that. It is the caller's to delete, also after an error. */
MUST_USE struct err *receive_begin(int dir, const char *name, int parent, const struct receive_limits *limits,
                                   struct receiver **ret);
/* The next piece; blocks while the child is busy. ERR_INVALID: the stream is wrong; ERR_TOO_LARGE; ERR_HOST: also the
 * file system being full. After an error only receive_free. */
MUST_USE struct err *receive_feed(struct receiver *r, const void *data, size_t len);
/* The stream is over and must be whole. The subvolume stays writable. */
MUST_USE struct err *receive_end(struct receiver *r, struct receive_info *ret);
void receive_free(struct receiver *r); /* ends the child */
DEFINE_AUTO(struct receiver, receive_free)

/* Records what a received subvolume was at the sender and makes it read-only: its own streams are called by the
 * sender's name for it (send_name) from then on. */
MUST_USE struct err *receive_mark(const char *path, const struct receive_info *info);
