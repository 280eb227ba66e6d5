/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Archives into an empty directory that is ours alone. Every entry is checked and made relative to the directory's fd;
 * no path is resolved through a symlink, whatever the archive made before. Names are not trusted, nor are counts and
 * sizes: the limits are checked as data comes, not as headers say.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

struct archive;
struct archive_entry;
struct tree_digest;

#define UNPACK_PATH_SIZE 1024

/* An entry before it is made. */
struct unpack_entry {
    struct archive *archive; /* its content may be read from here, when it is skipped then */
    struct archive_entry *entry;
    char path[UNPACK_PATH_SIZE]; /* as unpack_path makes it; may be changed */
    const char *strip;           /* in: NULL; a directory that is taken off the target of a hard link, or NULL */
    bool skip;                   /* in: false; it is not made */
    struct tree_digest *digest;  /* in: NULL; gets the entry and its content, or NULL */
};

struct unpack_rules {
    int64_t max_entries;
    int64_t max_bytes; /* sum of all file contents; the holes of a whole system's sparse files are not counted */
    bool whole_system; /* a root file system: owners, set-id bits, hard links, absolute symlinks and file capabilities
                        * are taken over, FIFOs, access lists and overlayfs' whiteouts too; devices and sockets are left
                        * out. Else: plain files owned by root, symlinks that stay inside, and everything that is
                        * anything else is refused. */
    /* Looks at every entry first; may be NULL. */
    void *owner;
    struct err *(*look)(void *owner, struct unpack_entry *entry);
};

/* Reads `a` (open, header not yet read) to its end. ERR_INVALID names the entry; ERR_TOO_LARGE; dir_fd may hold
 * remains then. *ret_bytes (may be NULL) = sum of the file contents. */
MUST_USE struct err *unpack_archive(struct archive *a, int dir_fd, const struct unpack_rules *rules,
                                    int64_t *ret_bytes);

/* The entry's path without "./" and trailing slashes; ERR_INVALID when it is absolute, too long or deep, has ".."
 * or an empty or overlong part. "" is the root itself. ret must hold UNPACK_PATH_SIZE bytes. */
MUST_USE struct err *unpack_path(const char *entry, char ret[UNPACK_PATH_SIZE]);
/* Whether a relative link at `path` stays inside the directory by its text alone. */
bool unpack_link_inside(const char *path, const char *target);
