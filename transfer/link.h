/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A connection to another node, for a job. TLS is talked by a process of its own that has given up everything but the
 * two sockets when the first byte of the other node arrives; the caller has a plain stream socket. All calls block; a
 * side that gives or takes no byte for PACE_STALL_S seconds (base/pace.h) counts as gone.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

#define LINK_PROTOCOL "noded-stream"

struct link_settings {
    const char *host; /* name or address; the other node's certificate must be for it */
    int64_t port;
    const char *certificate, *key; /* PEM files: this node as a client */
    const char *ca, *crl;          /* who signs the other one's; crl may be NULL */
    const char *empty_dir;         /* a directory with nothing in it */
};

/* *ret is the caller's. ERR_UNAVAILABLE: it does not answer; ERR_HOST: it is not who it should be. */
MUST_USE struct err *link_open(const struct link_settings *s, int *ret);

/* One request and its answer. *ret_status is its HTTP status, *ret_body (the caller's) its JSON or NULL. With `upgrade`
 * a status of 101 means that the connection is a stream of bytes from here on. The answer takes at most timeout_s
 * seconds to begin. ERR_CANCELLED: the connection broke, and nobody knows whether the request was heard. */
MUST_USE struct err *link_request(int fd, const char *method, const char *path, const json_t *body, bool upgrade,
                                  int64_t timeout_s, int *ret_status, json_t **ret_body);
/* The error that an answer is: its status, code, field and message. */
MUST_USE struct err *link_refusal(int status, const json_t *body);

/* For a child process: of its file descriptors these two stay, its directory is empty_dir, and it runs as nobody. */
MUST_USE struct err *link_confine(const char *empty_dir, int fds[2]);
