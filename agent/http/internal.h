/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the HTTP server share: http.c has the connections, request.c what comes over them. */
#pragma once

#include <microhttpd.h>

#include "agent/http/http.h"
#include "agent/http/link.h"

/* Query parameters that are taken, and the memory of libmicrohttpd for the head of a request. */
enum { HTTP_PARAMETERS_MAX = 100, HTTP_HEAD_MAX = 32768 };

struct connection {
    struct http_server *server;
    struct peer peer;
    struct http_link *link;       /* NULL: the pump's side has ended */
    uv_timer_t deadline;          /* for the head of the next request to arrive, or its body */
    struct http_request *reading; /* whose body the deadline is for */
    const char *uri;              /* of the request whose head is being taken: libmicrohttpd's text of its path */
    int fd;
    bool in_request; /* the head of a request was taken, and its reply is not through */
};

struct http_request {
    struct http_server *server;
    struct MHD_Connection *conn; /* NULL when the client's side is gone */
    struct http_request *prev, *next;
    const struct peer *peer;
    struct peer peer_copy;
    char *method, *path, *body;
    size_t body_len, body_size, body_max; /* body_max: what was announced, or may come */
    uint64_t body_begun_ms;
    size_t reply_len, reply_held; /* of a reply that is a text; what of it is taken from the budget of memory */
    struct MHD_Response *response;
    struct http_upgrade *upgrade; /* 101 is the answer, and was not sent yet */
    struct http_stream *stream;   /* the reply's body, when it comes in pieces */
    struct http_upload *upload;   /* the request's body, when it does */
    int status;
    bool body_borrowed; /* it is given back by http_body_return */
    bool dispatched, suspended, replied, close_after;
    bool client_closes; /* its Connection says so */
    bool abandoned;     /* the connection's last words are an error: what comes is dropped */
};

struct http_server {
    uv_loop_t *loop;
    struct MHD_Daemon *daemon;
    struct http_config config;
    uv_poll_t poll;
    uv_timer_t timer;
    struct http_request *requests;
    const struct peer *incoming; /* identity of the connection that MHD_add_connection is taking over right now */
    struct http_link *incoming_link;
    int open_handles; /* poll, timer and one for each connection's deadline */
    bool closing;
    uint64_t close_by_ms;
    void *close_owner;
    void (*closed)(void *owner);
};

/* Lets MHD run soon; never from inside one of its callbacks. */
void http_kick(struct http_server *s);
struct connection *http_connection_of(struct MHD_Connection *conn);
/* It is cut when so much time has passed, unless there is another deadline by then. */
void http_deadline(struct connection *c, uint64_t ms);
/* The body of a request that comes in pieces before its handler is called (body.c). */
void http_body_begin(struct http_request *r);
void http_body_take(struct http_request *r, const char *data, size_t len);
void http_body_late(struct http_request *r);
void http_body_free(struct http_request *r);
/* What one client's requests and replies have of the budget. */
size_t http_held_by(const struct http_server *s, const struct peer *peer);
/* The callbacks of libmicrohttpd: something of a request has come (the server is cls); it is over. */
enum MHD_Result http_request_take(void *cls, struct MHD_Connection *conn, const char *url, const char *method,
                                  const char *version, const char *data, size_t *data_len, void **con_cls);
void http_request_completed(void *cls, struct MHD_Connection *conn, void **con_cls,
                            enum MHD_RequestTerminationCode code);
void http_request_free(struct http_request *r);
void http_common_headers(struct http_request *r, const char *content_type);
/* MHD goes on with a suspended connection. */
void http_send(struct http_request *r);
/* A request whose body is a stream begins and ends. */
struct http_upload *http_upload_new(struct http_request *r);
void http_upload_close(struct http_upload *u);
/* Takes of the body what it can (*len is what is left then), or with *len == 0 its end. False: suspend. */
bool http_upload_take(struct http_upload *u, const char *data, size_t *len);
/* The request of an upgrade ended before it became one. */
void http_upgrade_gone(struct http_upgrade *u);
/* The connection of a stream has ended. */
void http_stream_gone(struct http_stream *s);
