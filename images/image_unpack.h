/* SPDX-License-Identifier: Apache-2.0 */
/* Within images/: from the files of an image to a directory, in a child. */
#pragma once

#include <jansson.h>

#include "base/err.h"

struct image_files {
    int root;            /* a file of the root file system, or of all */
    int metadata;        /* of an image in two files the other one; -1: none */
    int64_t input_bytes; /* of both, for the limit of what they may become */
    void *owner;
    void (*tick)(void *owner); /* now and then; may be NULL */
};

/* Fills the empty directory `dir`. *ret = {"bytes", "metadata": object|null}. Both fds are at their files' begin. */
MUST_USE struct err *image_unpack(const struct image_files *files, int dir, json_t **ret);
/* Whether it is a squashfs; those are read through /proc, so everybody must have the right to read the file. */
bool image_is_squashfs(int fd);
