/* SPDX-License-Identifier: Apache-2.0 */
#include "transfer/link.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/confine.h"
#include "base/fd.h"
#include "base/frame.h"
#include "base/json_table.h"
#include "base/pace.h"
#include "base/str.h"
#include "transfer/link_tls.h"

enum { CONNECT_S = 10, TELL_MS = 5000 };

/* A connect stops after SO_SNDTIMEO. */
static struct err *connect_to(const struct link_settings *s, int *ret)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    const struct timeval limit = {.tv_sec = CONNECT_S};
    autofree char *port = str_fmt("%lld", (long long)s->port);
    struct addrinfo *found = NULL;
    int rc = getaddrinfo(s->host, port, &hints, &found), errnum = 0;

    if (rc != 0)
        return err_new(ERR_UNAVAILABLE, "the other node '%s' is not found: %s", s->host, gai_strerror(rc));
    *ret = -1;
    for (const struct addrinfo *a = found; a && *ret < 0; a = a->ai_next) {
        autofd int fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

        if (fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)) == 0 &&
            setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) == 0 &&
            connect(fd, a->ai_addr, a->ai_addrlen) == 0)
            *ret = fd_steal(&fd);
        else
            errnum = errno == EINPROGRESS ? ETIMEDOUT : errno;
    }
    freeaddrinfo(found);
    return *ret >= 0 ? NULL
                     : err_recode(err_errno(errnum, "the other node at %s port %s does not answer", s->host, port),
                                  ERR_UNAVAILABLE);
}

/* Two sockets and nothing else: no files, no rights, nobody. */
struct err *link_confine(const char *empty_dir, int fds[2])
{
    const struct confinement nothing = {.nobody = true};
    autofd int dir = open(empty_dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    struct err *e = dir < 0 ? err_errno(errno, "'%s'", empty_dir) : confine_root(dir);

    if (!e && !fd_keep_only(fds, 2))
        e = err_errno(errno, "cannot confine the connection");
    dir = -1; /* closed with all others */
    return e ? e : confine(&nothing);
}

/* The other node has refused our certificate and will answer nothing. The job waits for an answer to its request: this
 * is it. What the job still writes is read, else its end of the socket pair would break before it has read the answer.
 */
static void tell_refusal(int inside, const char *alert)
{
    autofree char *message =
        str_fmt("this node's certificate (peers.certificate) was refused: %s; the other node's log says why", alert);
    autojson body = json_pack("{s:s}", "message", message);
    autofree char *text = json_dumps(body, JSON_COMPACT);
    autofree char *answer = str_fmt("HTTP/1.1 %d Refused\r\nContent-Length: %zu\r\n\r\n%s", err_code_status(ERR_HOST),
                                    text ? strlen(text) : 0, text ? text : "");
    struct pollfd wait = {.fd = inside, .events = POLLIN};
    char buf[4096];

    err_ignore(fd_write_all(inside, answer, strlen(answer)));
    (void)shutdown(inside, SHUT_WR);
    while (poll(&wait, 1, TELL_MS) > 0 && recv(inside, buf, sizeof(buf), 0) > 0)
        ;
}

static NORETURN void be_connection(const struct link_settings *s, int inside)
{
    int fds[2] = {-1, inside};
    autojson status = NULL;
    SSL *ssl = NULL;
    struct err *e = prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 ? err_errno(errno, "prctl") : link_tls_new(s, &ssl);

    if (!e)
        e = connect_to(s, &fds[0]);
    if (!e)
        e = link_confine(s->empty_dir, fds);
    if (!e)
        e = link_tls_handshake(ssl, fds[0]);
    status = e ? json_pack("{s:o}", "error", err_to_json(e)) : json_object();
    err_ignore(frame_send(fds[1], status)); /* a job that has gone away wants no answer */
    if (!e) {
        const char *alert = link_tls_pump(ssl, fds[0], fds[1]);

        if (alert)
            tell_refusal(fds[1], alert);
    }
    _exit(0);
}

static struct err *wait_for_it(int fd)
{
    autojson status = NULL;
    struct err *e = pace_limits(fd, 0);

    if (!e)
        e = frame_receive(fd, &status);
    if (!e && json_object_get(status, "error"))
        e = err_from_json(json_object_get(status, "error"));
    return e;
}

struct err *link_open(const struct link_settings *s, int *ret)
{
    autofd int ours = -1, theirs = -1;
    struct err *e = fd_mkdirs(s->empty_dir, 0711);
    int pair[2];
    pid_t pid;

    if (e)
        return e;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return err_errno(errno, "socketpair");
    ours = pair[0];
    theirs = pair[1];
    pid = fork();
    if (pid < 0)
        return err_errno(errno, "fork");
    if (pid == 0) {
        close(ours);
        be_connection(s, theirs);
    }
    e = wait_for_it(ours);
    if (!e)
        *ret = fd_steal(&ours);
    return e;
}
