/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One request, from its head to its reply. One that is not answered by its handler at once suspends its connection
 * until http_reply resumes it. libmicrohttpd does not notice a client that goes away while suspended: the write of the
 * reply finds out.
 */
#include "agent/http/gate.h"
#include "agent/http/http_error.h"
#include "agent/http/internal.h"
#include "agent/http/memory.h"
#include "base/json_table.h"
#include "base/log.h"
#include "base/pace.h"
#include "base/str.h"

enum { IDLE_DEADLINE_MS = 60000, REPLY_FREE = 16384 };
enum { UPLOAD_DEADLINE_MS = 120000 }; /* for the next bytes of a body that is a stream */

void http_request_free(struct http_request *r)
{
    if (r->prev)
        r->prev->next = r->next;
    else
        r->server->requests = r->next;
    if (r->next)
        r->next->prev = r->prev;
    if (r->response)
        MHD_destroy_response(r->response);
    http_upload_close(r->upload);
    free(r->method);
    free(r->path);
    memory_return(r->server->config.memory, r->reply_held);
    http_body_free(r);
    free(r);
}

void http_request_completed(void *cls, struct MHD_Connection *conn, void **con_cls,
                            enum MHD_RequestTerminationCode code)
{
    struct http_request *r = *con_cls;
    struct connection *c = http_connection_of(conn);

    (void)cls;
    if (c && c->fd >= 0)
        http_deadline(c, IDLE_DEADLINE_MS);
    if (c && c->link)
        http_link_replied(c->link);
    if (c && c->link && code != MHD_REQUEST_TERMINATED_COMPLETED_OK)
        c->link->last = c->link->last || (r && (r->replied || r->abandoned));
    if (c) {
        c->reading = NULL;
        c->in_request = false;
    }
    if (!r)
        return;
    *con_cls = NULL;
    r->conn = NULL;
    http_upload_close(steal(&r->upload));
    if (r->stream)
        http_stream_gone(r->stream);
    if (r->upgrade)
        http_upgrade_gone(steal(&r->upgrade));
    if (!r->dispatched || r->replied)
        http_request_free(r);
}

void http_common_headers(struct http_request *r, const char *content_type)
{
    (void)MHD_add_response_header(r->response, "Content-Type", content_type);
    (void)MHD_add_response_header(r->response, "Cache-Control", "no-store");
    if (r->close_after || r->server->closing)
        (void)MHD_add_response_header(r->response, "Connection", "close");
}

void http_send(struct http_request *r)
{
    if (!r->suspended)
        return;
    r->suspended = false;
    MHD_resume_connection(r->conn);
    http_kick(r->server);
}

static void set_response(struct http_request *r, int status, char *body, size_t len)
{
    r->status = status;
    r->reply_len = len;
    r->response = MHD_create_response_from_buffer(len, body, MHD_RESPMEM_MUST_FREE);
    if (!r->response)
        abort();
    http_common_headers(r, "application/json");
}

static void refuse(struct http_request *r, int status, struct err *e)
{
    autojson body = http_envelope(status, err_message(e));
    char *text = json_dumps(body, JSON_COMPACT);

    r->close_after = true;
    set_response(r, status, text, text ? strlen(text) : 0);
    r->replied = true;
    err_free(e);
}

/* A reply that the client does not take stays in memory, like a body: it is of the same budget. */
static bool afford(struct http_request *r, size_t len)
{
    struct memory *memory = r->server->config.memory;

    if (len <= REPLY_FREE)
        return true;
    if (memory_take(memory, http_held_by(r->server, r->peer), len) != MEMORY_GRANTED)
        return false;
    r->reply_held = len;
    return true;
}

static void reply(struct http_request *r, int status, char *body, size_t len, const char *name, const char *value)
{
    if (r->replied) {
        free(body);
        log_error(NULL, "a request was answered twice");
        return;
    }
    r->replied = true;
    if (!r->conn) {
        free(body);
        http_request_free(r);
        return;
    }
    if (!afford(r, len)) {
        free(body);
        refuse(r, 503,
               err_new(ERR_UNAVAILABLE, "Replies that clients have not taken yet have all the memory that there "
                                        "is for them; ask again"));
        (void)MHD_add_response_header(r->response, "Retry-After", "2");
        http_send(r);
        return;
    }
    set_response(r, status, body, len);
    if (name)
        (void)MHD_add_response_header(r->response, name, value);
    http_send(r);
}

void http_reply(struct http_request *r, int status, json_t *body, const char *header_name, const char *header_value)
{
    char *text = json_dumps(body, JSON_COMPACT);

    json_decref(body);
    reply(r, status, text, text ? strlen(text) : 0, header_name, header_value);
}

void http_reply_text(struct http_request *r, int status, char *body, size_t len)
{
    reply(r, status, body, len, NULL, NULL);
}

static ssize_t no_body(UNUSED void *cls, UNUSED uint64_t at, UNUSED char *buf, UNUSED size_t max)
{
    return MHD_CONTENT_READER_END_OF_STREAM;
}

void http_reply_head(struct http_request *r, const char *content_type)
{
    r->replied = true;
    if (!r->conn) {
        http_request_free(r);
        return;
    }
    r->status = MHD_HTTP_OK;
    r->response = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, 1024, no_body, NULL, NULL);
    if (!r->response)
        abort();
    http_common_headers(r, content_type);
    http_send(r);
}

static struct http_request *request_new(struct http_server *s, struct MHD_Connection *conn, const char *method,
                                        const char *url)
{
    struct http_request *r = mem_new(struct http_request);
    struct connection *c = http_connection_of(conn);

    r->server = s;
    r->conn = conn;
    r->method = str_dup(method);
    r->path = str_dup(url);
    if (c)
        r->peer_copy = c->peer;
    r->peer = &r->peer_copy;
    r->next = s->requests;
    if (r->next)
        r->next->prev = r;
    s->requests = r;
    if (c) {
        c->in_request = true;
        http_deadline(c, IDLE_DEADLINE_MS * 10);
    }
    return r;
}

/* From here on what libmicrohttpd writes is this reply. */
static enum MHD_Result queue(struct http_request *r)
{
    struct connection *c = http_connection_of(r->conn);

    if (c && r->reply_len > 0)
        http_deadline(c, (uint64_t)pace_allowed_ms(r->reply_len));
    if (c && c->link)
        http_link_reply(c->link, r->close_after || r->client_closes || r->server->closing);
    return MHD_queue_response(r->conn, (unsigned)r->status, r->response);
}

static void dispatch(struct http_request *r)
{
    struct connection *c = http_connection_of(r->conn);

    if (c) {
        c->reading = NULL;
        http_deadline(c, IDLE_DEADLINE_MS * 10);
    }
    r->dispatched = true;
    r->server->config.handler(r->server->config.owner, r);
    http_body_free(r);
}

static void begin_upload(struct http_request *r)
{
    r->upload = http_upload_new(r);
    r->dispatched = true;
    r->close_after = true;
    r->server->config.handler(r->server->config.owner, r);
}

static enum MHD_Result go_on_with_upload(struct http_request *r, const char *data, size_t *data_len)
{
    struct connection *c = http_connection_of(r->conn);
    bool end = *data_len == 0;

    if (c)
        http_deadline(c, UPLOAD_DEADLINE_MS);
    if (http_upload_take(r->upload, data, data_len) && !(end && !r->replied))
        return end ? queue(r) : MHD_YES;
    if (c)
        uv_timer_stop(&c->deadline); /* it is we who let the client wait */
    r->suspended = true;
    MHD_suspend_connection(r->conn);
    return MHD_YES;
}

static enum MHD_Result take_head(struct http_server *s, struct http_request *r, const char *version)
{
    bool upload = s->config.is_upload && s->config.is_upload(s->config.owner, r->method, r->path);
    int status = 0;
    const char *connection = http_header(r, "Connection");
    struct err *e =
        http_gate(r->conn, r->method, r->path, version, upload ? SIZE_MAX : s->config.body_max, &r->body_max, &status);

    r->client_closes = connection && strcasestr(connection, "close");
    if (e)
        refuse(r, status, e);
    else if (upload)
        begin_upload(r);
    else
        http_body_begin(r);
    return r->replied ? queue(r) : MHD_YES;
}

enum MHD_Result http_request_take(void *cls, struct MHD_Connection *conn, const char *url, const char *method,
                                  const char *version, const char *data, size_t *data_len, void **con_cls)
{
    struct http_server *s = cls;
    struct http_request *r = *con_cls;

    if (!r) {
        r = request_new(s, conn, method, url);
        *con_cls = r;
        return take_head(s, r, version);
    }
    if (r->upload)
        return go_on_with_upload(r, data, data_len);
    if (*data_len) {
        http_body_take(r, data, *data_len);
        *data_len = 0;
        return MHD_YES;
    }
    if (r->abandoned)
        return MHD_NO;
    if (!r->dispatched)
        dispatch(r);
    if (!r->replied) {
        r->suspended = true;
        MHD_suspend_connection(conn);
        return MHD_YES;
    }
    return queue(r);
}

const char *http_method(const struct http_request *r)
{
    return r->method;
}

const char *http_path(const struct http_request *r)
{
    return r->path;
}

const char *http_query(const struct http_request *r, const char *name)
{
    return r->conn ? MHD_lookup_connection_value(r->conn, MHD_GET_ARGUMENT_KIND, name) : NULL;
}

struct query_reader {
    void *owner;
    void (*each)(void *owner, const char *name, const char *value);
};

static enum MHD_Result on_parameter(void *cls, enum MHD_ValueKind kind, const char *name, const char *value)
{
    const struct query_reader *q = cls;

    (void)kind;
    q->each(q->owner, name, value);
    return MHD_YES;
}

void http_query_each(const struct http_request *r, void *owner,
                     void (*each)(void *owner, const char *name, const char *value))
{
    struct query_reader q = {owner, each};

    if (r->conn)
        (void)MHD_get_connection_values(r->conn, MHD_GET_ARGUMENT_KIND, on_parameter, &q);
}

const char *http_header(const struct http_request *r, const char *name)
{
    return r->conn ? MHD_lookup_connection_value(r->conn, MHD_HEADER_KIND, name) : NULL;
}

const char *http_body(const struct http_request *r, size_t *ret_len)
{
    *ret_len = r->body_len;
    return r->body;
}

const struct peer *http_peer(const struct http_request *r)
{
    return r->peer;
}
