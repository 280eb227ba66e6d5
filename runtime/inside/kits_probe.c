/* SPDX-License-Identifier: Apache-2.0 */
/* A question to a service over the loopback interface. What answers is the container's: a few bytes of it are looked
 * at, for a short while. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/str.h"
#include "runtime/inside/kits.h"

enum { PATIENCE_MS = 300, HEAD_LEN = 12 /* "HTTP/1.1 200" */ };

static bool await(int fd, short events, int64_t end)
{
    struct pollfd p = {.fd = fd, .events = events};
    int64_t left = end - clock_mono_ms();

    return left > 0 && poll(&p, 1, (int)left) == 1;
}

static bool connect_to(int fd, const struct sockaddr *address, socklen_t len, int64_t end)
{
    int error = 0;
    socklen_t size = sizeof(error);

    if (connect(fd, address, len) == 0)
        return true;
    return errno == EINPROGRESS && await(fd, POLLOUT, end) &&
           getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) == 0 && error == 0;
}

/* Over IPv6, else IPv4; -1. */
static int open_port(int port, int64_t end)
{
    const struct sockaddr_in6 six = {
        .sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port), .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    const struct sockaddr_in four = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    autofd int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (fd >= 0 && connect_to(fd, (const struct sockaddr *)&six, sizeof(six), end))
        return fd_steal(&fd);
    fd_closep(&fd);
    fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd >= 0 && connect_to(fd, (const struct sockaddr *)&four, sizeof(four), end))
        return fd_steal(&fd);
    return -1;
}

static int ask(int fd, const char *path, int64_t end)
{
    autofree char *request = str_fmt("GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", path);
    char head[HEAD_LEN + 1] = "";
    size_t len = 0;
    int64_t status = 0;

    if (send(fd, request, strlen(request), MSG_NOSIGNAL) != (ssize_t)strlen(request))
        return 0;
    while (len < HEAD_LEN && await(fd, POLLIN, end)) {
        ssize_t n = recv(fd, head + len, HEAD_LEN - len, 0);

        if (n <= 0)
            break;
        len += (size_t)n;
    }
    if (len < HEAD_LEN || strncmp(head, "HTTP/1.", 7) != 0 || !str_to_i64(head + 9, &status))
        return 0;
    return (int)status;
}

bool kits_probe(int port, const char *path, int *ret_status)
{
    int64_t end = clock_mono_ms() + PATIENCE_MS;
    autofd int fd = open_port(port, end);

    *ret_status = 0;
    if (fd < 0)
        return false;
    if (!path)
        return true;
    *ret_status = ask(fd, path, end);
    return *ret_status == 200;
}
