/* SPDX-License-Identifier: Apache-2.0 */
/* Within images/: what the index and the catalogue of a simplestreams server say. Both are a stranger's. */
#pragma once

#include <jansson.h>

#include "base/err.h"

#define STREAMS_FILES 2

struct streams_file {
    char *path; /* relative to the server's root; no "..", no "//" */
    char sha256[65];
    int64_t size;
};

struct streams_image {
    struct streams_file files[STREAMS_FILES]; /* the metadata's first, when there are two */
    size_t count;
    char fingerprint[65]; /* of all; empty: not said */
    char *serial;
};

/* Paths of the catalogues of images in streams/v1/index.json; an array. */
MUST_USE struct err *streams_catalogues(const json_t *index, json_t **ret);
/* The newest version that has a usable form of the product of that name, for this host's processor. Its names are its
 * aliases and "OS/RELEASE", and where no other product has that name, "OS/ALIAS" and "OS/VERSION" ("ubuntu/24.04").
 * ERR_NOT_FOUND; ERR_INVALID when what is found cannot be used. The caller clears *ret. */
MUST_USE struct err *streams_find(const json_t *catalogue, const char *name, struct streams_image *ret);
void streams_image_clear(struct streams_image *i);
