/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The root of a running container as its processes see it, with what is mounted there. A mount is the container's
 * choice, and not every file system answers by itself: behind FUSE is a process of the container's, and overlay asks
 * it in the container's name, whoever looks. A process that waits for its answer cannot be killed. So a path is
 * followed part by part, and what is mounted on the way has to be of a kind that answers by itself, by what the kernel
 * says of the mount: the file system is not asked before. Symbolic links are not followed.
 *
 * For a child inside the container's namespaces that is no help, and none is needed: nobody waits for it for ever.
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "base/fd.h"

struct live {
    pid_t init; /* of the container */
    int root;   /* for confined_read_unmounted and the like; no other use than with *at() calls */
};
#define LIVE_NONE ((struct live){.root = -1})

static inline void live_done(struct live *l)
{
    fd_closep(&l->root);
}
#define autolive __attribute__((cleanup(live_done))) struct live

/* ret->init is set whatever comes out. ERR_WRONG_STATE when there is no such process; ERR_HOST when its root is on a
 * file system that may keep us waiting. */
MUST_USE struct err *live_open(pid_t init, struct live *ret);
/* Reads a regular file. ERR_NOT_FOUND when there is none, or not one that may be looked at; ERR_TOO_LARGE over max.
 * *ret_text is NUL-terminated and the caller's. */
MUST_USE struct err *live_read(const struct live *l, const char *path, size_t max, char **ret_text);
/* Whether there is anything of this name that may be looked at. */
bool live_exists(const struct live *l, const char *path);
/* The directory `name` in `dir`, which may be looked at, or what is mounted on it: open with O_PATH and not asked, so
 * it may be a file system of any kind. -1 when there is none. */
int live_open_mounted(const struct live *l, const char *dir, const char *name);
