/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HTTP/1.1 on the loop; the only files that know libmicrohttpd. Connections come one by one (http_server_add: local.c
 * and tls.c hand over those that are let in). A handler gets a request when its body is complete and answers it exactly
 * once with http_reply, at once or later. Everything runs on the loop thread.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <uv.h>

#include "base/err.h"

enum peer_role {
    ROLE_OPERATOR = 1,      /* local socket, or a certificate with OU=operator */
    ROLE_CONTROL_PLANE = 2, /* a certificate with OU=control-plane */
    ROLE_NODE = 4,          /* OU=node: another node; its id is the name */
};

struct peer {
    enum peer_role role;
    bool local;    /* of the control socket */
    char name[96]; /* "uid 0" or the certificate's common name */
};

/* Whether quotas count the two as one client: the same uid, or certificates with the same name and role. */
bool peer_same(const struct peer *a, const struct peer *b);

struct http_server;
struct http_link;
struct memory;
struct http_request;

typedef void http_handler_fn(void *owner, struct http_request *req);

struct http_config {
    size_t body_max;
    struct memory *memory; /* that bodies are taken from; must live longer */
    void *owner;
    http_handler_fn *handler;
    /* Whether the body of such a request is a stream: its handler is called when the head is there, and says by
     * http_upload_to where the body goes. May be NULL: none is. */
    bool (*is_upload)(void *owner, const char *method, const char *path);
};

MUST_USE struct err *http_server_start(uv_loop_t *loop, const struct http_config *config, struct http_server **ret);
/* Takes over a connected socket whose peer is known. The link lives until http_link_gone. */
void http_server_add(struct http_server *s, int fd, const struct peer *peer, struct http_link *link);
/* No new connections. The owner must have answered every request; connections that stay open are cut after a few
 * seconds. `closed` runs when all is gone and memory is freed. */
void http_server_close(struct http_server *s, void *owner, void (*closed)(void *owner));

const char *http_method(const struct http_request *req);
/* Percent-decoded, without the query. What would change its parts stays escaped: %2F, %25 and %00. */
const char *http_path(const struct http_request *req);
const char *http_query(const struct http_request *req, const char *name); /* decoded; NULL when absent */
/* Calls `each` for every query parameter, in order; value is NULL for `?name`. */
void http_query_each(const struct http_request *req, void *owner,
                     void (*each)(void *owner, const char *name, const char *value));
const char *http_header(const struct http_request *req, const char *name); /* NULL when absent */
/* Until the handler returns: then the body's memory is given back. */
const char *http_body(const struct http_request *req, size_t *ret_len);
/* For longer than that: until http_body_return, which must come before the reply, with what http_body_borrow gave. */
char *http_body_borrow(struct http_request *req, size_t *ret_len);
void http_body_return(struct http_request *req, char *body);
const struct peer *http_peer(const struct http_request *req);

/*
 * The body of an upload goes into a socket (a stream one, taken over) as fast as that takes it; nothing is kept in
 * memory. At the end of the body the socket is shut down for writing; when the client leaves before, it is closed, so
 * that the reader can tell the two apart (POLLHUP). Whoever reads may leave: the rest of the body is dropped then. The
 * answer is sent when the body has come in.
 */
void http_upload_to(struct http_request *req, int fd);

/* Answers with a JSON body (taken over). header_name may be NULL. A client that went away is no error. */
void http_reply(struct http_request *req, int status, json_t *body, const char *header_name, const char *header_value);
/* The same with a body of len bytes that is text already, made by malloc (taken over). */
void http_reply_text(struct http_request *req, int status, char *body, size_t len);

/* The head of a reply whose body is a stream of that content type: 200, for HEAD. */
void http_reply_head(struct http_request *req, const char *content_type);

/*
 * A connection that becomes a stream of bytes for somebody else. Answers the request with 101; `taken` runs once,
 * later: with a socket that is the owner's, or with -1 when the client has left and u is NULL. http_upgrade_end when
 * nobody uses the socket any more.
 */
struct http_upgrade;
typedef void http_taken_fn(void *owner, struct http_upgrade *u, int fd);
void http_upgrade(struct http_request *req, const char *protocol, void *owner, http_taken_fn *taken);
void http_upgrade_end(struct http_upgrade *u);

/*
 * A reply whose body comes in pieces, for as long as both sides like. What is written waits in memory until the client
 * takes it: the writer looks at http_stream_waiting and stops when it is too much. `drained` runs when the client has
 * taken all, and may write; `gone` runs once when the client has left, and the stream is freed then.
 */
struct http_stream;

struct http_stream_config {
    const char *content_type;
    void *owner;
    void (*drained)(void *owner);
    void (*gone)(void *owner);
};

/* Answers the request with 200 and a stream. NULL when the client has left already: nothing was called then. */
struct http_stream *http_stream_begin(struct http_request *req, const struct http_stream_config *config);
void http_stream_write(struct http_stream *s, const char *text, size_t len);
size_t http_stream_waiting(const struct http_stream *s); /* bytes */
/* The end of the body, behind what waits. The owner is not called any more. */
void http_stream_end(struct http_stream *s);
/* For a client that takes nothing any more: the connection is cut, then the owner is called. */
void http_stream_cut(struct http_stream *s);
