/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Work inside a root file system that somebody else owns. Every path is resolved by the kernel with the given root as
 * its "/" (openat2, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS): a symlink or ".." inside leads to another place inside,
 * never out. The last component is never followed and never opened for writing: a file comes into being under a
 * temporary name and is renamed over whatever stands there, be it a symlink, a FIFO or a device.
 *
 * Owners are plain numbers of the container (0 is its root), as they are stored on disk. Paths may begin with '/'.
 * The tree may change under us at any time; a race can lose our write, not lead it astray.
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "base/err.h"

/* Opens a directory as a root. The path is the node's own; a symlink as last component is refused. */
MUST_USE struct err *confined_open_root(const char *path, int *ret_fd);
/* Opens a directory inside. ERR_NOT_FOUND when there is none, or a part of the path is a symlink: who may write to a
 * directory on the way shall not choose another one. */
MUST_USE struct err *confined_open_dir(int root, const char *path, int *ret_fd);

struct confined_owner {
    uid_t uid;
    gid_t gid;
};

/* mkdir -p: what exists stays as it is; a component that is no directory (nor a link to one) is replaced. Only
 * directories that are made here get mode and owner. */
MUST_USE struct err *confined_mkdirs(int root, const char *path, mode_t mode, struct confined_owner owner);
/* Replaces a file whole; missing parents are made (0755, root). A directory in its place is moved aside. */
MUST_USE struct err *confined_write(int root, const char *path, const void *data, size_t len, mode_t mode,
                                    struct confined_owner owner);
/* Makes or replaces a symlink; the target is text and is not looked at. */
MUST_USE struct err *confined_symlink(int root, const char *path, const char *target);
/* Removes a file or an empty directory itself, never what it points to. Missing is fine; a directory with something in
 * it stays. */
MUST_USE struct err *confined_remove(int root, const char *path);
/* Removes all files of a directory whose names begin with prefix. A missing directory is fine; directories stay. */
MUST_USE struct err *confined_remove_prefix(int root, const char *dir, const char *prefix);
/* Reads a regular file, following symlinks within the root. ERR_NOT_FOUND when absent or not a regular file (those of
 * proc and the like are none), ERR_TOO_LARGE over max. *ret_text is NUL-terminated and the caller's; ret_len may be
 * NULL. */
MUST_USE struct err *confined_read(int root, const char *path, size_t max, char **ret_text, size_t *ret_len);
/* The same for a running container's own root: what is mounted on the way there, or over the file, is not looked at, so
 * that no file system of the container's making is asked. ERR_NOT_FOUND then. */
MUST_USE struct err *confined_read_unmounted(int root, const char *path, size_t max, char **ret_text, size_t *ret_len);
/* Whether anything has this name (the last component is not followed). */
bool confined_exists(int root, const char *path);
