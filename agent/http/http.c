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

enum { HEADER_DEADLINE_MS = 10000, CONNECTIONS_MAX = 512, CLOSE_DEADLINE_MS = 5000 };

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
    /* The account at the other end counts only where clients connect to this server's own socket: a connection that was
     * handed over has this process there, which would make an operator of anybody. */
    if (s->incoming)
        c->peer = *s->incoming;
    else if (s->config.listen_fd < 0 || !peer_of_socket(c->fd, &c->peer))
        (void)shutdown(c->fd, SHUT_RDWR);
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
#if MHD_VERSION >= 0x00097707
    /* This thread is the only one. Without the flag MHD_add_connection leaves its work to a later MHD_run, and
     * on_connection would not know whose connection it is told of. */
    flags |= MHD_USE_NO_THREAD_SAFETY;
#endif
    if (config->listen_fd < 0)
        flags |= MHD_USE_NO_LISTEN_SOCKET;
    s->daemon =
        MHD_start_daemon(flags, 0, NULL, NULL, http_request_take, s, MHD_OPTION_EXTERNAL_LOGGER, on_log, NULL,
                         MHD_OPTION_UNESCAPE_CALLBACK, unescape, NULL, MHD_OPTION_NOTIFY_CONNECTION, on_connection, s,
                         MHD_OPTION_NOTIFY_COMPLETED, http_request_completed, s, MHD_OPTION_CONNECTION_LIMIT,
                         CONNECTIONS_MAX, MHD_OPTION_CONNECTION_TIMEOUT, 0u, MHD_OPTION_STRICT_FOR_CLIENT, 1,
                         MHD_OPTION_ARRAY, config->listen_fd < 0 ? nothing : listen, MHD_OPTION_END);
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
