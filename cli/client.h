/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP to one node: over its unix socket, or over mTLS. */
#pragma once

#include "base/err.h"

struct client_config {
    const char *socket;          /* used when url is NULL */
    const char *url;             /* "https://host:8443" */
    const char *cert, *key, *ca; /* PEM files, for url */
    int timeout_s;
    bool progress; /* tell on stderr that we wait, after two seconds */
};

struct client;

MUST_USE struct err *client_open(const struct client_config *config, struct client **ret);
void client_close(struct client *c);
DEFINE_AUTO(struct client, client_close)

/* body may be NULL. *ret gets the envelope's data. An error reply becomes an error with the server's message, its code
 * as reason, and what to do next. */
MUST_USE struct err *client_call(struct client *c, const char *method, const char *path, const json_t *body,
                                 json_t **ret);
/* The same with a body of any size: what is read from fd until its end, and then from fd2 (-1: nothing). The node sees
 * it as it comes. Tells on stderr how much has gone, when the client shows progress. */
MUST_USE struct err *client_upload(struct client *c, const char *path, int fd, int fd2, json_t **ret);
/* A reply of bytes, written to fd as they come; an error when they are cut off. */
MUST_USE struct err *client_download(struct client *c, const char *path, int fd);
/* A reply that goes on: every line of it, without its end, until the node ends it (NULL) or the connection breaks.
 * last_id (may be NULL) is sent as Last-Event-ID. */
MUST_USE struct err *client_follow(struct client *c, const char *path, const char *last_id, void *owner,
                                   void (*line)(void *owner, const char *text));
/* One part of a path or query, percent-encoded; the caller frees it. */
char *client_escape(const char *text);
/* The same of a query's value, where a slash stands for itself. */
char *client_escape_value(const char *text);
