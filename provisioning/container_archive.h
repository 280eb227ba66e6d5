/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A container as one file: a tar archive, compressed by zstd, of
 *   noded.json       what is known of the container: {"format": 1, "container": {...}, "snapshots": [{"name", ...}]}
 *   rootfs/          its root file system
 *   snapshots/NAME/  those of its snapshots, in the order of noded.json
 *   digests.json     {"header": sha256 of noded.json, "trees": {"rootfs": digest, "snapshots/NAME": digest}}
 * Every entry is covered by a digest, and without the last one the archive was cut off. tar(1) can unpack it.
 */
#pragma once

#include <jansson.h>
#include <stdint.h>

#include "base/err.h"

#define CONTAINER_ARCHIVE_FORMAT 1
#define CONTAINER_ARCHIVE_HEADER "noded.json"
#define CONTAINER_ARCHIVE_DIGESTS "digests.json"
#define CONTAINER_ARCHIVE_SNAPSHOTS_MAX 1000

/* Whether noded.json, or NULL, is one: its format, and the names of its snapshots. */
MUST_USE struct err *container_archive_check_header(const json_t *header);

struct container_archive {
    int fd;        /* where it goes to or comes from, at the pace of base/pace.h at least */
    int64_t bytes; /* reading: that many of file contents at most */
    void *owner;
    void (*progress)(void *owner, int64_t bytes); /* of file contents, now and then; may be NULL */
};

/* One tree of a container. */
struct container_tree {
    int dir;
    const char *name; /* "rootfs", "snapshots/NAME" */
};

/* *ret_bytes: of file contents. What has no place in an archive is known before the first byte is written. */
MUST_USE struct err *container_archive_write(const struct container_archive *c, const json_t *header,
                                             const struct container_tree *trees, size_t count, int64_t *ret_bytes);
/* Reads a hostile one to its end and checks it. Makes a subvolume for each tree below `dir`, which is empty and ours
 * alone; after an error there may be remains. *ret = {"header": noded.json, "bytes"}. Blocking; meant for a sandbox. */
MUST_USE struct err *container_archive_read(const struct container_archive *c, int dir, json_t **ret);
