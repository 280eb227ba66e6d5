/* SPDX-License-Identifier: Apache-2.0 */
/* Within images/: HTTP, by a child that runs as nobody. */
#pragma once

#include <jansson.h>

#include "base/err.h"
#include "images/streams.h"

struct fetch {
    const char *url; /* the server's root */
    const char *ca;  /* certificates (PEM) instead of the system's, or NULL */
    void *owner;
    void (*tick)(void *owner); /* now and then; may be NULL */
};

/* The image of that name on the server. Texts are bounded; *ret as of streams_find. */
MUST_USE struct err *fetch_find(const struct fetch *f, const char *name, struct streams_image *ret);
/* Fills fd up to the file's size; what is in it already is gone on from. The digest is made while it comes; ERR_INVALID
 * with IMAGE_DIGEST_WRONG when it is another, and fd is empty then. */
MUST_USE struct err *fetch_file(const struct fetch *f, const struct streams_file *file, int fd);
