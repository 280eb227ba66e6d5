/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Directory trees into one tar archive: directories, files, hard links, symlinks, FIFOs, the whiteouts of overlayfs,
 * owners as they are on disk, capabilities, access lists and attributes of users. Sockets and devices are left out.
 * What unpacking (unpack.h) would refuse for its path is an error, ERR_HOST. No path is followed through a symlink, and
 * the names of a directory come in one order, so the same tree makes the same archive.
 */
#pragma once

#include <jansson.h>
#include <stdint.h>

#include "base/err.h"

struct pack;

struct pack_config {
    int fd;          /* where the archive goes: whoever takes it keeps the pace of base/pace.h, or ERR_TIMEOUT */
    int pace_s;      /* struct pace's limit_s */
    bool compressed; /* by zstd */
    void *owner;
    void (*progress)(void *owner, int64_t bytes); /* of file contents, now and then; may be NULL */
};

MUST_USE struct err *pack_new(const struct pack_config *config, struct pack **ret);
void pack_free(struct pack *p);
DEFINE_AUTO(struct pack, pack_free)

/* A file that is not of any tree. */
MUST_USE struct err *pack_text(struct pack *p, const char *name, const char *text);
/* All below the directory `dir`, under `prefix` (NULL: at the top, where the directory itself is "."). *ret_digest (may
 * be NULL) is that of tree_digest.h. */
MUST_USE struct err *pack_tree(struct pack *p, int dir, const char *prefix, char *ret_digest);
/* The end of the archive; nothing is whole before. *ret_bytes: of file contents. */
MUST_USE struct err *pack_finish(struct pack *p, int64_t *ret_bytes);
