/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Answers every HTTP request with what the service sees of its client, as JSON. One thread, one poll loop, a fixed
 * table of connections, each answered once and closed; who sends nothing in time is closed as well. Linked statically:
 * it runs in any container.
 *
 * usage: whoami PORT
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define CONNECTIONS 256
#define REQUEST_MAX 4096
#define DEADLINE_S 10
#define ENVIRONMENT_MAX 65536
#define ID_MAX 32
#define ID_KEY "HOODY_CONTAINER_ID="

struct connection {
    int fd; /* -1 = free */
    time_t deadline;
    struct sockaddr_in6 peer;
    size_t len;
    char request[REQUEST_MAX];
};

static struct connection connections[CONNECTIONS];

/* "203.0.113.9" for an IPv4 client, of the IPv6 socket too, else the IPv6 form. */
static void address_text(const struct sockaddr_in6 *a, char ret[INET6_ADDRSTRLEN])
{
    if (a->sin6_family == AF_INET)
        inet_ntop(AF_INET, &((const struct sockaddr_in *)a)->sin_addr, ret, INET6_ADDRSTRLEN);
    else if (IN6_IS_ADDR_V4MAPPED(&a->sin6_addr))
        inet_ntop(AF_INET, a->sin6_addr.s6_addr + 12, ret, INET6_ADDRSTRLEN);
    else
        inet_ntop(AF_INET6, &a->sin6_addr, ret, INET6_ADDRSTRLEN);
}

/* The part of the request line that is a path, without what would need escaping in JSON. */
static void path_of(const char *request, char *ret, size_t size)
{
    const char *begin = strchr(request, ' ');
    size_t n = 0;

    for (begin = begin ? begin + 1 : ""; *begin > ' ' && *begin < 0x7f && n + 1 < size; begin++)
        if (*begin != '"' && *begin != '\\')
            ret[n++] = *begin;
    ret[n] = '\0';
}

/* The container's id as the file says now, so that another one needs no restart; "" when there is none. */
static void container_id(char ret[ID_MAX])
{
    static char text[ENVIRONMENT_MAX];
    const char *line = text;
    int fd = open("/etc/environment", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof(text) - 1);

    if (fd >= 0)
        close(fd);
    text[n > 0 ? n : 0] = '\0';
    ret[0] = '\0';
    while (line && strncmp(line, ID_KEY, strlen(ID_KEY)) != 0) {
        line = strchr(line, '\n');
        line = line ? line + 1 : NULL;
    }
    if (!line)
        return;
    line += strlen(ID_KEY);
    for (size_t i = 0; i + 1 < ID_MAX && line[i] && strchr("0123456789abcdef", line[i]); i++) {
        ret[i] = line[i];
        ret[i + 1] = '\0';
    }
}

static void answer(const struct connection *c)
{
    char peer[INET6_ADDRSTRLEN] = "", local[INET6_ADDRSTRLEN] = "", path[512], body[1536], head[256], container[ID_MAX];
    struct sockaddr_in6 self = {0};
    socklen_t size = sizeof(self);
    int body_len, head_len;

    address_text(&c->peer, peer);
    if (getsockname(c->fd, (struct sockaddr *)&self, &size) == 0)
        address_text(&self, local);
    path_of(c->request, path, sizeof(path));
    container_id(container);
    body_len = snprintf(body, sizeof(body),
                        "{\"service\": \"whoami\", \"peer\": \"%s\", \"peer_port\": %u, \"local\": \"%s\", "
                        "\"local_port\": %u, \"path\": \"%s\", \"container_id\": \"%s\"}\n",
                        peer, ntohs(c->peer.sin6_port), local, ntohs(self.sin6_port), path, container);
    head_len = snprintf(head, sizeof(head),
                        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n"
                        "Cache-Control: no-store\r\nConnection: close\r\n\r\n",
                        body_len);
    /* Two kilobytes at most: an empty socket buffer takes them whole. */
    if (send(c->fd, head, (size_t)head_len, MSG_MORE | MSG_NOSIGNAL) == head_len &&
        strncmp(c->request, "HEAD ", 5) != 0 && send(c->fd, body, (size_t)body_len, MSG_NOSIGNAL) < 0)
        perror("send");
    shutdown(c->fd, SHUT_WR);
}

static void drop(struct connection *c)
{
    close(c->fd);
    c->fd = -1;
}

static void take(int listener, time_t now)
{
    struct sockaddr_in6 peer = {0};
    socklen_t size = sizeof(peer);
    int fd = accept4(listener, (struct sockaddr *)&peer, &size, SOCK_NONBLOCK | SOCK_CLOEXEC);

    if (fd < 0)
        return;
    for (size_t i = 0; i < CONNECTIONS; i++) {
        struct connection *c = &connections[i];

        if (c->fd >= 0)
            continue;
        c->fd = fd;
        c->len = 0;
        c->peer = peer;
        c->deadline = now + DEADLINE_S;
        return;
    }
    close(fd);
}

static void hear(struct connection *c)
{
    ssize_t n = recv(c->fd, c->request + c->len, sizeof(c->request) - 1 - c->len, 0);

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        drop(c);
        return;
    }
    c->len += (size_t)n;
    c->request[c->len] = '\0';
    if (strstr(c->request, "\r\n\r\n") || strstr(c->request, "\n\n")) {
        answer(c);
        drop(c);
    } else if (c->len == sizeof(c->request) - 1) {
        drop(c);
    }
}

static int listen_on(const char *port_text)
{
    union {
        struct sockaddr_in6 six;
        struct sockaddr_in four;
    } any = {.six = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_ANY_INIT}};
    long port = strtol(port_text, NULL, 10);
    int fd, on = 1, off = 0;

    if (port < 1 || port > 65535) {
        fprintf(stderr, "whoami: not a port: %s\n", port_text);
        exit(2);
    }
    any.six.sin6_port = htons((uint16_t)port);
    fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 && errno == EAFNOSUPPORT) { /* a kernel without IPv6 */
        any.four = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
        fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    }
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 ||
        (any.six.sin6_family == AF_INET6 && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off)) < 0) ||
        bind(fd, (struct sockaddr *)&any, sizeof(any)) < 0 || listen(fd, 128) < 0) {
        perror("whoami: cannot listen");
        exit(1);
    }
    return fd;
}

/* One round: waits, then serves everything that is ready. */
static void round_of(int listener)
{
    struct pollfd fds[CONNECTIONS + 1] = {{.fd = listener, .events = POLLIN}};
    bool idle = true;
    struct timespec now;

    for (size_t i = 0; i < CONNECTIONS; i++) {
        fds[i + 1] = (struct pollfd){.fd = connections[i].fd, .events = POLLIN};
        idle = idle && connections[i].fd < 0;
    }
    if (poll(fds, CONNECTIONS + 1, idle ? -1 : 1000) < 0)
        return;
    clock_gettime(CLOCK_MONOTONIC, &now);
    for (size_t i = 0; i < CONNECTIONS; i++) {
        if (connections[i].fd < 0)
            continue;
        if (fds[i + 1].revents)
            hear(&connections[i]);
        else if (now.tv_sec > connections[i].deadline)
            drop(&connections[i]);
    }
    if (fds[0].revents)
        take(listener, now.tv_sec);
}

int main(int argc, char **argv)
{
    int listener;

    if (argc != 2) {
        fprintf(stderr, "usage: whoami PORT\n");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    for (size_t i = 0; i < CONNECTIONS; i++)
        connections[i].fd = -1;
    listener = listen_on(argv[1]);
    for (;;)
        round_of(listener);
}
