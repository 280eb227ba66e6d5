/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libmicrohttpd with an external epoll: its epoll fd sits under a uv_poll, its timeout in a uv_timer. MHD_run is never
 * called from inside one of its callbacks; "kick" arms the timer with 0 ms instead.
 */
#include "agent/http/http.h"

#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/http/internal.h"
#include "base/log.h"
#include "base/str.h"

/* The listeners have their own bounds of connections, below this one. */
enum { HEADER_DEADLINE_MS = 10000, CONNECTIONS_MAX = 2048, CLOSE_DEADLINE_MS = 5000 };

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

    if (c->reading) {
        http_body_late(c->reading);
        return;
    }
    if (c->link && !c->in_request && http_link_asked(c->link)) {
        c->link->refuse(c->link, 408, "The head of the request did not arrive in time", 0);
        return;
    }
    /* MHD sees the end of the stream and closes in its own time. */
    if (c->link)
        c->link->last = true;
    (void)shutdown(c->fd, SHUT_RDWR);
}

void http_deadline(struct connection *c, uint64_t ms)
{
    uv_timer_start(&c->deadline, on_deadline, ms, 0);
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

bool peer_same(const struct peer *a, const struct peer *b)
{
    return a->role == b->role && a->local == b->local && strcmp(a->name, b->name) == 0;
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
            if (c->link)
                c->link->conn = NULL;
            uv_close((uv_handle_t *)&c->deadline, on_connection_closed);
        }
        return;
    }
    c = mem_new(struct connection);
    c->server = s;
    c->fd = info->connect_fd;
    if (s->incoming) {
        c->peer = *s->incoming;
        c->link = s->incoming_link;
        c->link->conn = c;
    } else { /* its client is not known: without a role it reaches no route, and it ends */
        (void)shutdown(c->fd, SHUT_RDWR);
    }
    uv_timer_init(s->loop, &c->deadline);
    c->deadline.data = c;
    s->open_handles++;
    http_deadline(c, HEADER_DEADLINE_MS);
    *socket_context = c;
}

struct connection *http_connection_of(struct MHD_Connection *conn)
{
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(conn, MHD_CONNECTION_INFO_SOCKET_CONTEXT);

    return info ? info->socket_context : NULL;
}

static int hex_digit(char c)
{
    static const char digits[] = "0123456789abcdef";
    const char *p = c ? strchr(digits, c >= 'A' && c <= 'F' ? c - 'A' + 'a' : c) : NULL;

    return p ? (int)(p - digits) : -1;
}

/* Percent-decoding in place. A NUL would end the text early: it stays as it is. So do, in a path, a slash, which would
 * make another path, and the percent sign, which would make an escaped slash: route.c decodes them part by part. */
static size_t unescape(void *cls, struct MHD_Connection *conn, char *s)
{
    const struct connection *c = http_connection_of(conn);
    bool is_path = !c || c->uri == s;
    char *out = s;

    (void)cls;
    for (const char *in = s; *in; in++) {
        int high = in[0] == '%' ? hex_digit(in[1]) : -1, low = high >= 0 ? hex_digit(in[2]) : -1;
        int byte = low >= 0 ? high * 16 + low : 0;

        if (byte == 0 || (is_path && (byte == '/' || byte == '%'))) {
            *out++ = *in;
        } else {
            *out++ = (char)byte;
            in += 2;
        }
    }
    *out = '\0';
    return (size_t)(out - s);
}

/* Before the query is taken apart: libmicrohttpd may have no memory for its parameters, and then says nothing. */
static void *on_uri(void *cls, const char *uri, struct MHD_Connection *conn)
{
    struct connection *c = http_connection_of(conn);
    const char *query = strchr(uri, '?');
    unsigned long parameters = query ? 1 : 0;
    char text[96];

    (void)cls;
    if (c)
        c->uri = uri;
    for (; query && *query; query++)
        parameters += *query == '&';
    if (parameters <= HTTP_PARAMETERS_MAX || !c || !c->link)
        return NULL;
    snprintf(text, sizeof(text), "The query has %lu parameters, and at most %d are taken", parameters,
             HTTP_PARAMETERS_MAX);
    c->link->refuse(c->link, 400, text, 0);
    return NULL;
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
    unsigned flags =
        MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_ALLOW_UPGRADE | MHD_USE_ERROR_LOG | MHD_USE_NO_LISTEN_SOCKET;

    s->loop = loop;
    s->config = *config;
#if MHD_VERSION >= 0x00097707
    /* This thread is the only one. Without the flag MHD_add_connection leaves its work to a later MHD_run, and
     * on_connection would not know whose connection it is told of. */
    flags |= MHD_USE_NO_THREAD_SAFETY;
#endif
    s->daemon = MHD_start_daemon(flags, 0, NULL, NULL, http_request_take, s, MHD_OPTION_EXTERNAL_LOGGER, on_log, NULL,
                                 MHD_OPTION_UNESCAPE_CALLBACK, unescape, NULL, MHD_OPTION_NOTIFY_CONNECTION,
                                 on_connection, s, MHD_OPTION_NOTIFY_COMPLETED, http_request_completed, s,
                                 MHD_OPTION_CONNECTION_LIMIT, CONNECTIONS_MAX, MHD_OPTION_CONNECTION_TIMEOUT, 0u,
                                 MHD_OPTION_STRICT_FOR_CLIENT, 1, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
                                 (size_t)HTTP_HEAD_MAX, MHD_OPTION_URI_LOG_CALLBACK, on_uri, s, MHD_OPTION_END);
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

void http_server_add(struct http_server *s, int fd, const struct peer *peer, struct http_link *link)
{
    struct sockaddr_storage unused = {.ss_family = AF_UNIX};

    if (s->closing) {
        close(fd);
        return;
    }
    s->incoming = peer;
    s->incoming_link = link;
    if (MHD_add_connection(s->daemon, fd, (struct sockaddr *)&unused, sizeof(sa_family_t)) != MHD_YES)
        link->refuse(link, 503, "The server has no room for the connection; ask again", 1);
    s->incoming = NULL;
    s->incoming_link = NULL;
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
    s->closing = true;
    s->close_owner = owner;
    s->closed = closed;
    s->close_by_ms = uv_now(s->loop) + CLOSE_DEADLINE_MS;
    http_kick(s);
}
