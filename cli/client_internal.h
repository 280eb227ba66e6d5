/* SPDX-License-Identifier: Apache-2.0 */
/* What all requests of nodectl share: client.c has those with an answer in JSON, client_stream.c those of any size. */
#pragma once

#include <curl/curl.h>

#include "cli/client.h"

struct client {
    CURL *curl;
    char *base, *socket, *url;
    bool progress;
};

struct answer {
    char *text;
    size_t len;
};

struct waiting {
    int64_t since;
    int64_t shown_s;
};

/* What all requests have in common, however their bodies come and go. */
struct exchange {
    struct curl_slist *headers; /* taken over */
    curl_write_callback taken;
    void *taker;
    curl_xferinfo_callback progress; /* NULL: nothing is shown */
    void *shown;
    struct waiting *waiting; /* of what is shown */
    bool endless;            /* it takes as long as bytes come or go */
    char details[CURL_ERROR_SIZE];
};

/* A curl_write_callback for a struct answer; it has a bound. */
size_t client_take(char *data, size_t size, size_t count, void *owner);
void client_set_request(struct client *c, const char *method, const char *body);
CURLcode client_perform(struct client *c, const char *path, struct exchange *x);
/* Why there is no answer, as an error that says what to do. details: what libcurl says of it. */
struct err *client_no_answer(const struct client *c, CURLcode code, const char *details);
/* Takes the envelope apart: *ret (may be NULL) gets its data, a refusal becomes an error. */
MUST_USE struct err *client_read_answer(long status, const struct answer *a, json_t **ret);
