/* SPDX-License-Identifier: Apache-2.0 */
/* What unpack.c, which reads an archive, and unpack_make.c, which makes its entries, share. */
#pragma once

#include <sys/stat.h>

#include "provisioning/unpack.h"

struct late_dir {
    char *path;
    mode_t mode;
    struct timespec mtime;
    struct archive_entry *attributes; /* NULL: none; what is made in it would inherit them */
};

struct unpack {
    struct archive *a;
    const struct unpack_rules *rules;
    int root;
    int parent; /* open directory of parent_path, or -1 */
    char parent_path[UNPACK_PATH_SIZE];
    struct late_dir *dirs;
    size_t dir_count, dir_size;
    int64_t entries, bytes;
    struct unpack_entry now;
};

/* Opens a directory part by part from the root, never through a symlink; with `make`, makes what is missing. -1 and
 * errno. */
int unpack_walk(int root, const char *path, bool make);
/* The entry as it should be at `path`, "" for the root; its content is read. A directory's time, mode and attributes
 * wait in u->dirs. */
MUST_USE struct err *unpack_make(struct unpack *u, struct archive_entry *entry, const char *path);
/* Gives the entry the extended attributes that it was written with. libarchive writes each one twice, once as it is and
 * once under a name that is encoded like a URL, and reads the second one with its encoded name (seen with 3.6.2 and
 * 3.7.4). ERR_TOO_LARGE: it has too many. */
MUST_USE struct err *unpack_attributes(struct archive_entry *entry);
MUST_USE struct err *unpack_xattrs(struct archive_entry *entry, int fd, const char *path);
MUST_USE struct err *unpack_failed(struct archive *a, const char *what);
MUST_USE struct err *unpack_too_much(const struct unpack *u);
