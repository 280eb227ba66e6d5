/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Within storage/: where the paths of a stream lead. Every path is resolved below the new subvolume (or its parent) and
 * without symbolic links; its last part is never followed.
 */
#pragma once

#include "base/err.h"

/* A directory and a name in it, "." for the directory itself. Begins with .dir = -1. */
struct place {
    char *path;
    const char *name; /* into path */
    int dir;
};

void place_clear(struct place *p);
#define PLACE __attribute__((cleanup(place_clear))) struct place

/* Splits path (taken over) and opens its directory. "" is the root itself. */
MUST_USE struct err *place_locate(int root, char *path, struct place *p);
/* A regular file; what is none is not even opened. */
MUST_USE struct err *place_open_file(int root, const char *path, int flags, int *ret);

/* errno as an error: ERR_INVALID, since the stream is wrong, unless the disk is full or fails. */
MUST_USE struct err *receive_failed(const char *what, const char *path);
