/* SPDX-License-Identifier: Apache-2.0 */
/* From verb and path to a row of the route table. Pure. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

struct api_call;

struct route {
    int verbs;        /* enum api_verb bits */
    const char *path; /* "{name}" segments match one path part each and become params, in order */
    int roles;        /* enum peer_role bits */
    void (*handler)(struct api_call *call);
    const char *choices[8]; /* when set, the last param must be one of these words for the row to match */
    /* When set, answers for what is refused before the handler runs, if the container is known. */
    void (*refuse)(struct api_call *call, struct err *e);
    bool held;          /* also answered while the node is held */
    bool slashes;       /* %2F in a param is a slash; else it stays %2F */
    bool words;         /* its params are words, no ids */
    bool fallback;      /* matches only after all others and never makes a 405 */
    const char *stream; /* content type of a reply that is no JSON; HEAD gets it without the handler */
    bool upload;        /* the body is no JSON but a stream: http_upload_to */
};

enum { ROUTE_VERBS_SIZE = 48 };

/* The words of enum api_verb bits, into text, which it returns. */
const char *route_verbs(int verbs, const char *separator, char text[ROUTE_VERBS_SIZE]);
bool route_has_verb(int verb, const char *word);

/* A slash at the end of the path makes no difference. *params (three, the caller's even on error) get the segments.
 * ERR_NOT_FOUND: no such path; ERR_METHOD: the path is there, field holds the Allow header's value. */
MUST_USE struct err *route_find(const struct route *routes, size_t count, int verb, const char *path, char **params,
                                const struct route **ret);
