/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One connection as its two ends see it: pump.c moves its bytes between the client and libmicrohttpd, http.c has what
 * libmicrohttpd makes of them. libmicrohttpd answers what it cannot read with a page of its own, or with nothing. The
 * link says which bytes are replies of this program, so that the pump can put the platform's error in the place of the
 * others. Loop thread only.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct connection;

struct http_link {
    struct connection *conn; /* NULL: libmicrohttpd has closed the connection */
    int fd;                  /* the pump's end of the socket pair; -1: there is none */
    uint64_t taken, ours;    /* bytes that the pump has taken from libmicrohttpd; where replies of this program end */
    uint64_t given, settled; /* bytes that libmicrohttpd got; how many it had when the last request was over */
    bool replying;           /* all that comes now is a reply of this program */
    bool last;               /* the reply was the last of the connection, which ends without more words */
    bool upgraded;           /* what comes is no HTTP any more */
    /* The connection ends with this error as its last words. From inside a callback of libmicrohttpd too. */
    void (*refuse)(struct http_link *link, int status, const char *message, int retry_after_s);
};

/* A reply of this program begins, after which libmicrohttpd closes (last) or not; all of it has gone into the socket
 * pair. */
void http_link_reply(struct http_link *link, bool last);
void http_link_replied(struct http_link *link);
/* How many of the next bytes that libmicrohttpd writes are replies of this program. */
uint64_t http_link_ours(const struct http_link *link);
/* Bytes of a request were given to libmicrohttpd, and that request is not over. */
bool http_link_asked(const struct http_link *link);
/* The pump's side has ended: http.c forgets the link. */
void http_link_gone(struct http_link *link);
