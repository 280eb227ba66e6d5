/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/broker.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"

enum { STREAM = 3 };

static int make(const struct broker_request *q, int *ret)
{
    const int on = 1;
    bool v4 = q->target.ss_family == AF_INET;
    autofd int fd = socket(q->target.ss_family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return errno;
    if (!address_is_elsewhere((const struct sockaddr *)&q->target))
        return EACCES;
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 ||
        setsockopt(fd, v4 ? IPPROTO_IP : IPPROTO_IPV6, v4 ? IP_TRANSPARENT : IPV6_TRANSPARENT, &on, sizeof(on)) < 0 ||
        bind(fd, (const struct sockaddr *)&q->target, address_len(&q->target)) < 0 ||
        connect(fd, (const struct sockaddr *)&q->client, address_len(&q->client)) < 0)
        return errno;
    *ret = fd_steal(&fd);
    return 0;
}

static bool is_valid(const struct relay *r, const struct broker_request *q)
{
    return (q->target.ss_family == AF_INET || q->target.ss_family == AF_INET6) &&
           q->client.ss_family == q->target.ss_family && ((const struct sockaddr_in *)&q->target)->sin_port != 0 &&
           address_is_client(r, &q->client);
}

static bool answer(const struct broker_answer *a, int fd)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct iovec iov = {.iov_base = (void *)(uintptr_t)a, .iov_len = sizeof(*a)};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};

    if (fd >= 0) {
        struct cmsghdr *c;

        m.msg_control = control.bytes;
        m.msg_controllen = sizeof(control.bytes);
        c = CMSG_FIRSTHDR(&m);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(c), &fd, sizeof(fd));
    }
    return sendmsg(STREAM, &m, MSG_NOSIGNAL) >= 0;
}

/* Until the relay has gone. */
static void serve(const struct relay *r)
{
    struct broker_request q;

    while (recv(STREAM, &q, sizeof(q), 0) == sizeof(q)) {
        struct broker_answer a = {.id = q.id, .error = EINVAL};
        autofd int fd = -1;

        if (is_valid(r, &q))
            a.error = make(&q, &fd);
        /* Only so many may be on their way, of all relays of the account: then this one has none for now. */
        if (answer(&a, fd) || errno != ETOOMANYREFS)
            continue;
        a.error = errno;
        if (!answer(&a, -1))
            return;
    }
}

/* It has no use for them. */
static void forget(char *secret)
{
    if (secret)
        explicit_bzero(secret, strlen(secret));
}

static void run(const struct relay *r, int stream)
{
    struct err *e;

    /* None of the relay's sockets stays open here. */
    if (dup2(stream, STREAM) < 0 || close_range(STREAM + 1, ~0u, 0) < 0)
        _exit(1);
    prctl(PR_SET_NAME, "relay-broker", 0, 0, 0);
    forget(r->settings.username);
    forget(r->settings.password);
    e = setup_drop(r, true);
    if (e) {
        log_err(NULL, LOG_LEVEL_ERR, e, "the broker of a relay cannot start");
        _exit(1);
    }
    serve(r);
    _exit(0);
}

struct err *broker_start(struct relay *r)
{
    int pair[2];
    pid_t pid;

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return err_errno(errno, "socketpair");
    pid = fork();
    if (pid == 0)
        run(r, pair[1]);
    close(pair[1]);
    if (pid < 0 || fcntl(pair[0], F_SETFL, O_NONBLOCK) < 0) {
        close(pair[0]);
        return err_errno(errno, "cannot start the broker");
    }
    r->broker_fd = pair[0];
    return NULL;
}
