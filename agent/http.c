/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libmicrohttpd with an external epoll: its epoll fd sits under a uv_poll, its timeout in a uv_timer. MHD_run is never
 * called from inside one of its callbacks; "kick" arms the timer with 0 ms instead. A request that is not answered by
 * its handler at once suspends its connection until http_reply resumes it. MHD does not notice a client that goes away
 * while suspended: the write of the reply finds out.
 */
#include "agent/http.h"

#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/http_gate.h"
#include "agent/http_internal.h"
#include "base/json_table.h"
#include "base/log.h"
#include "base/str.h"

enum { HEADER_DEADLINE_MS = 10000, IDLE_DEADLINE_MS = 60000, CONNECTIONS_MAX = 512, CLOSE_DEADLINE_MS = 5000 };
enum { UPLOAD_DEADLINE_MS = 120000 }; /* for the next bytes of a body that is a stream */

static void on_timer(uv_timer_t *t);
static void continue_close(struct http_server *s);

static void on_handle_closed(uv_handle_t *h)
{
    struct http_server *s = h->data;

    if (--s->open_handles == 0 && s->closing && !s->daemon) {
        s->closed(s->close_owner);
        free(s);
    }
}

static void on_connection_closed(uv_handle_t *h)
{
    struct connection *c = h->data;

    h->data = c->server;
    on_handle_closed(h);
    free(c);
}

static void on_deadline(uv_timer_t *t)
{
    struct connection *c = t->data;

    /* MHD sees the end of the stream and closes in its own time. */
    (void)shutdown(c->fd, SHUT_RDWR);
}

static void run(struct http_server *s)
{
    MHD_UNSIGNED_LONG_LONG ms;

    if (!s->daemon)
        return;
    (void)MHD_run(s->daemon);
    if (s->closing)
        continue_close(s);
    if (!s->daemon)
        return;
    if (MHD_get_timeout(s->daemon, &ms) == MHD_YES)
        uv_timer_start(&s->timer, on_timer, ms, 0);
}

static void on_poll(uv_poll_t *p, int status, int events)
{
    (void)status;
    (void)events;
    run(p->data);
}

static void on_timer(uv_timer_t *t)
{
    run(t->data);
}

void http_kick(struct http_server *s)
{
    uv_timer_start(&s->timer, on_timer, 0, 0);
}

static bool peer_of_socket(int fd, struct peer *peer)
{
    struct ucred cred;
    socklen_t len = sizeof(cred);

    /* The socket's mode and group let in root and group noded only; who gets this far is an operator. */
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0)
        return false;
    peer->role = ROLE_OPERATOR;
    snprintf(peer->name, sizeof(peer->name), "uid %u", (unsigned)cred.uid);
    return true;
}

static void on_connection(void *cls, struct MHD_Connection *conn, void **socket_context,
                          enum MHD_ConnectionNotificationCode code)
{
    struct http_server *s = cls;
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(conn, MHD_CONNECTION_INFO_CONNECTION_FD);
    struct connection *c;

    if (code == MHD_CONNECTION_NOTIFY_CLOSED) {
        c = *socket_context;
        if (c) {
            c->fd = -1;
            uv_close((uv_handle_t *)&c->deadline, on_connection_closed);
        }
        return;
    }
    c = mem_new(struct connection);
    c->server = s;
    c->fd = info->connect_fd;
    if (s->incoming)
        c->peer = *s->incoming;
    else if (!peer_of_socket(c->fd, &c->peer))
        (void)shutdown(c->fd, SHUT_RDWR);
    uv_timer_init(s->loop, &c->deadline);
    c->deadline.data = c;
    s->open_handles++;
    uv_timer_start(&c->deadline, on_deadline, HEADER_DEADLINE_MS, 0);
    *socket_context = c;
}

struct connection *http_connection_of(struct MHD_Connection *conn)
{
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(conn, MHD_CONNECTION_INFO_SOCKET_CONTEXT);

    return info ? info->socket_context : NULL;
}

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
    free(r->body);
    free(r);
}

static void on_completed(void *cls, struct MHD_Connection *conn, void **con_cls, enum MHD_RequestTerminationCode code)
{
    struct http_request *r = *con_cls;
    struct connection *c = http_connection_of(conn);

    (void)cls;
    (void)code;
    if (c && c->fd >= 0)
        uv_timer_start(&c->deadline, on_deadline, IDLE_DEADLINE_MS, 0);
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
    r->response = MHD_create_response_from_buffer(len, body, MHD_RESPMEM_MUST_FREE);
    if (!r->response)
        abort();
    http_common_headers(r, "application/json");
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
    if (c)
        uv_timer_start(&c->deadline, on_deadline, IDLE_DEADLINE_MS * 10, 0);
    return r;
}

static void refuse(struct http_request *r, int status, struct err *e)
{
    autojson body = json_pack("{s:i, s:s, s:s, s:n}", "statusCode", status, "error",
                              status == 413 ? "Payload Too Large" : "Bad Request", "message", err_message(e), "data");
    char *text = json_dumps(body, JSON_COMPACT);

    r->close_after = true;
    set_response(r, status, text, text ? strlen(text) : 0);
    r->replied = true;
    err_free(e);
}

static enum MHD_Result take_body(struct http_request *r, const char *data, size_t *len)
{
    size_t max = r->server->config.body_max;

    if (r->body_len + *len > max) {
        /* Chunked and too long: read on for a little so that the answer can be sent, then give up. */
        r->too_large = true;
        r->body_len += *len;
        *len = 0;
        return r->body_len > 4 * max ? MHD_NO : MHD_YES;
    }
    if (r->body_len + *len > r->body_size) {
        r->body_size = MAX(r->body_size * 2, r->body_len + *len);
        r->body = mem_grow(r->body, r->body_size, 1);
    }
    memcpy(r->body + r->body_len, data, *len);
    r->body_len += *len;
    *len = 0;
    return MHD_YES;
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
        uv_timer_start(&c->deadline, on_deadline, UPLOAD_DEADLINE_MS, 0);
    if (http_upload_take(r->upload, data, data_len) && !(end && !r->replied))
        return end ? MHD_queue_response(r->conn, (unsigned)r->status, r->response) : MHD_YES;
    if (c)
        uv_timer_stop(&c->deadline); /* it is we who let the client wait */
    r->suspended = true;
    MHD_suspend_connection(r->conn);
    return MHD_YES;
}

static enum MHD_Result on_request(void *cls, struct MHD_Connection *conn, const char *url, const char *method,
                                  const char *version, const char *data, size_t *data_len, void **con_cls)
{
    struct http_server *s = cls;
    struct http_request *r = *con_cls;
    int status = 0;

    if (!r) {
        bool upload = s->config.is_upload && s->config.is_upload(s->config.owner, method, url);
        struct err *e;

        r = request_new(s, conn, method, url);
        *con_cls = r;
        e = http_gate(conn, method, url, version, upload ? SIZE_MAX : s->config.body_max, &status);
        if (e)
            refuse(r, status, e);
        else if (upload)
            begin_upload(r);
        return r->replied ? MHD_queue_response(conn, (unsigned)r->status, r->response) : MHD_YES;
    }
    if (r->upload)
        return go_on_with_upload(r, data, data_len);
    if (*data_len)
        return take_body(r, data, data_len);
    if (!r->dispatched) {
        r->dispatched = true;
        if (r->too_large)
            refuse(r, 413, err_new(ERR_TOO_LARGE, "the body is larger than %zu bytes", s->config.body_max));
        else
            s->config.handler(s->config.owner, r);
    }
    if (!r->replied) {
        r->suspended = true;
        MHD_suspend_connection(conn);
        return MHD_YES;
    }
    return MHD_queue_response(conn, (unsigned)r->status, r->response);
}

static int hex_digit(char c)
{
    static const char digits[] = "0123456789abcdef";
    const char *p = c ? strchr(digits, c >= 'A' && c <= 'F' ? c - 'A' + 'a' : c) : NULL;

    return p ? (int)(p - digits) : -1;
}

/* Percent-decoding in place. A NUL would end the text early and a slash would make another path: both stay as they are.
 */
static size_t unescape(void *cls, struct MHD_Connection *conn, char *s)
{
    char *out = s;

    (void)cls;
    (void)conn;
    for (const char *in = s; *in; in++) {
        int high = in[0] == '%' ? hex_digit(in[1]) : -1, low = high >= 0 ? hex_digit(in[2]) : -1;
        int c = low >= 0 ? high * 16 + low : 0;

        if (c == 0 || c == '/') {
            *out++ = *in;
        } else {
            *out++ = (char)c;
            in += 2;
        }
    }
    *out = '\0';
    return (size_t)(out - s);
}

static PRINTF_LIKE(2, 0) void on_log(void *cls, const char *fmt, va_list ap)
{
    char text[512];

    (void)cls;
    vsnprintf(text, sizeof(text), fmt, ap);
    text[strcspn(text, "\n")] = '\0';
    if (!strstr(text, "TCP_")) /* it tries TCP options on unix sockets, every time */
        log_debug(NULL, "http: %s", text);
}

struct err *http_server_start(uv_loop_t *loop, const struct http_config *config, struct http_server **ret)
{
    struct http_server *s = mem_new(struct http_server);
    unsigned flags = MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_ALLOW_UPGRADE | MHD_USE_ERROR_LOG;
    struct MHD_OptionItem listen[] = {{MHD_OPTION_LISTEN_SOCKET, config->listen_fd, NULL}, {MHD_OPTION_END, 0, NULL}};
    struct MHD_OptionItem nothing[] = {{MHD_OPTION_END, 0, NULL}};

    s->loop = loop;
    s->config = *config;
    if (config->listen_fd < 0)
        flags |= MHD_USE_NO_LISTEN_SOCKET;
    s->daemon = MHD_start_daemon(
        flags, 0, NULL, NULL, on_request, s, MHD_OPTION_EXTERNAL_LOGGER, on_log, NULL, MHD_OPTION_UNESCAPE_CALLBACK,
        unescape, NULL, MHD_OPTION_NOTIFY_CONNECTION, on_connection, s, MHD_OPTION_NOTIFY_COMPLETED, on_completed, s,
        MHD_OPTION_CONNECTION_LIMIT, CONNECTIONS_MAX, MHD_OPTION_CONNECTION_TIMEOUT, 0u, MHD_OPTION_STRICT_FOR_CLIENT,
        1, MHD_OPTION_ARRAY, config->listen_fd < 0 ? nothing : listen, MHD_OPTION_END);
    if (!s->daemon) {
        free(s);
        return err_new(ERR_INTERNAL, "the HTTP server cannot start");
    }
    s->open_handles = 2;
    uv_timer_init(loop, &s->timer);
    if (uv_poll_init(loop, &s->poll, MHD_get_daemon_info(s->daemon, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd) != 0)
        abort();
    s->timer.data = s->poll.data = s;
    uv_poll_start(&s->poll, UV_READABLE, on_poll);
    http_kick(s);
    *ret = s;
    return NULL;
}

void http_server_add(struct http_server *s, int fd, const struct peer *peer)
{
    struct sockaddr_storage unused = {.ss_family = AF_UNIX};
    struct peer copy = *peer;

    if (s->closing) {
        close(fd);
        return;
    }
    s->incoming = &copy;
    if (MHD_add_connection(s->daemon, fd, (struct sockaddr *)&unused, sizeof(sa_family_t)) != MHD_YES)
        log_warning(NULL, "a connection was refused: too many are open");
    s->incoming = NULL;
    http_kick(s);
}

static void continue_close(struct http_server *s)
{
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(s->daemon, MHD_DAEMON_INFO_CURRENT_CONNECTIONS);

    if (info && info->num_connections > 0 && uv_now(s->loop) < s->close_by_ms) {
        uv_timer_start(&s->timer, on_timer, 20, 0);
        return;
    }
    uv_poll_stop(&s->poll);
    uv_timer_stop(&s->timer);
    MHD_stop_daemon(s->daemon);
    s->daemon = NULL;
    uv_close((uv_handle_t *)&s->poll, on_handle_closed);
    uv_close((uv_handle_t *)&s->timer, on_handle_closed);
}

void http_server_close(struct http_server *s, void *owner, void (*closed)(void *owner))
{
    int fd;

    s->closing = true;
    s->close_owner = owner;
    s->closed = closed;
    s->close_by_ms = uv_now(s->loop) + CLOSE_DEADLINE_MS;
    fd = s->config.listen_fd >= 0 ? MHD_quiesce_daemon(s->daemon) : -1;
    if (fd >= 0)
        close(fd);
    http_kick(s);
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
