/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A container as streams of its subvolumes, over a wire (transfer/wire.h): what two nodes send each other, and what is
 * in an archive of the kind "stream". A set is a subvolume with all that are nested in it; the sets come in order,
 * snapshots first, the root file system last:
 *
 *   {"stream": {"set": "snapshot"|"root", "name": of the snapshot or null, "path": "" or where it is nested,
 *               "readonly": bool, "parent": "none"|"image"|"base"|"previous"}}, then its bytes (storage/send.h);
 *               for a path that is not UTF-8 "path_hex" instead of "path": its bytes as hex digits
 *   {"end": {"streams": how many}}
 *
 * parent is the set that the stream is the difference to; for a nested subvolume the one at the same path there.
 * "image" is the image that both have, "base" what the receiver said that it has, "previous" the set before.
 */
#pragma once

#include "runtime/job.h"
#include "transfer/wire.h"

#define SET_SNAPSHOT "snapshot"
#define SET_ROOT "root"
#define PARENT_NONE "none"
#define PARENT_IMAGE "image"
#define PARENT_BASE "base"
#define PARENT_PREVIOUS "previous"

struct sets_out;

/* work: passing snapshots get names that begin so; it is a path in the slot. wire is borrowed. */
struct sets_out *sets_out_new(const struct job *job, struct wire *wire, const char *work);
void sets_out_free(struct sets_out *o);
DEFINE_AUTO(struct sets_out, sets_out_free)
/* What the first set is the difference to, and what the receiver calls it; by itself it is nothing. */
MUST_USE struct err *sets_out_parent(struct sets_out *o, const char *path, const char *word);
/* One that is gone is passed over: *ret_there. Failpoint "peer.sent" before the end of each run. */
MUST_USE struct err *sets_out_snapshot(struct sets_out *o, const char *name, bool *ret_there);
/* root: a read-only snapshot that nobody else uses. */
MUST_USE struct err *sets_out_root(struct sets_out *o, const char *root);
MUST_USE struct err *sets_out_end(struct sets_out *o);
/* Passing snapshots, those of a former try too, go. */
MUST_USE struct err *sets_out_tidy(const char *pool, const char *work);

struct sets_rules {
    const char *image;       /* fingerprint of the image that a set may be the difference to; NULL: none */
    bool base;               /* and so may the slot's base */
    const json_t *snapshots; /* names of those that may come */
    int64_t bytes_max;       /* of all that comes */
    int64_t reserve;         /* room that the pool must keep */
    const char *other;       /* whose it is, as in wire_config */
    enum err_code wrong;     /* what his mistakes are */
    bool digest;             /* the end must have the "digest" of all before (wire_digest) */
    bool named;              /* they keep what the sender calls them, for differences to them later */
};

/* All sets come under temporary names into the slot, which has its directories: the root file system as "base". They
 * are complete and read-only when this returns without an error. *ret_names: of the snapshots, the caller's. */
MUST_USE struct err *sets_receive(const struct job *job, struct wire *wire, const struct sets_rules *rules,
                                  json_t **ret_names);
/* The received snapshots get their names. */
MUST_USE struct err *sets_place_snapshots(const struct job *job, const json_t *names);
