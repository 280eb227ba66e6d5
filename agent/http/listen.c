/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/http/listen.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"

enum { BACKLOG = 1024 };

static int passed(const char *name)
{
    char **names = NULL;
    int n = sd_listen_fds_with_names(0, &names), fd = -1;

    for (int i = 0; i < n; i++) {
        if (strcmp(names[i], name) == 0 && fd < 0) {
            fd = SD_LISTEN_FDS_START + i;
            (void)fcntl(fd, F_SETFD, FD_CLOEXEC);
            (void)fcntl(fd, F_SETFL, O_NONBLOCK);
        }
        free(names[i]);
    }
    free(names);
    return fd;
}

void listen_keep_passed(void)
{
    int n = sd_listen_fds(0);

    for (int fd = SD_LISTEN_FDS_START; fd < SD_LISTEN_FDS_START + n; fd++)
        (void)fcntl(fd, F_SETFD, 0);
}

/* The socket is made with mode 0600, given its group, then opened to it: nobody else gets in between. */
static struct err *open_control(const struct config *c, int *ret)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    const struct group *group = getgrnam(c->socket_group);
    autofd int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    mode_t mask;
    int rc;

    if (fd < 0)
        return err_errno(errno, "socket");
    if (strlen(c->socket) >= sizeof(addr.sun_path))
        return err_field("control.socket", "must be at most %zu characters", sizeof(addr.sun_path) - 1);
    memcpy(addr.sun_path, c->socket, strlen(c->socket) + 1);
    (void)unlink(c->socket);
    mask = umask(0177);
    rc = bind(fd, (struct sockaddr *)&addr, sizeof(addr));
    (void)umask(mask);
    if (rc < 0)
        return err_errno(errno, "cannot bind '%s'", c->socket);
    if (!group)
        log_warning(NULL, "group '%s' does not exist: only root can use the control socket", c->socket_group);
    else if (chown(c->socket, 0, group->gr_gid) < 0 || chmod(c->socket, 0660) < 0)
        return err_errno(errno, "cannot give '%s' to group '%s'", c->socket, c->socket_group);
    if (listen(fd, BACKLOG) < 0)
        return err_errno(errno, "listen on '%s'", c->socket);
    *ret = fd_steal(&fd);
    return NULL;
}

/* For any address, when the kernel has no IPv6, the one of IPv4 does. */
static int open_family(struct addrinfo *found)
{
    struct sockaddr_in6 *six = (struct sockaddr_in6 *)(void *)found->ai_addr;
    int fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (fd >= 0 || errno != EAFNOSUPPORT || found->ai_family != AF_INET6 || !IN6_IS_ADDR_UNSPECIFIED(&six->sin6_addr))
        return fd;
    *(struct sockaddr_in *)(void *)six = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = six->sin6_port};
    found->ai_addrlen = sizeof(struct sockaddr_in);
    return socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
}

/* "[::]:8443", "127.0.0.1:8443" or ":8443". */
static struct err *open_tls(const struct config *c, int *ret)
{
    const struct addrinfo hints = {.ai_flags = AI_PASSIVE | AI_NUMERICHOST | AI_NUMERICSERV,
                                   .ai_socktype = SOCK_STREAM};
    autofree char *host = str_dup(c->tls_listen);
    struct addrinfo *found = NULL;
    char *port = strrchr(host, ':'), *name = host;
    autofd int fd = -1;
    int one = 1;

    if (!port)
        return err_field("tls.listen", "must be ADDRESS:PORT, such as [::]:8443");
    *port++ = '\0';
    if (*name == '[' && name[strlen(name) - 1] == ']') {
        name[strlen(name) - 1] = '\0';
        name++;
    }
    if (getaddrinfo(*name ? name : NULL, port, &hints, &found) != 0 || !found)
        return err_field("tls.listen", "'%s' is not an address and port", c->tls_listen);
    fd = open_family(found);
    if (fd >= 0)
        (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (fd < 0 || bind(fd, found->ai_addr, found->ai_addrlen) < 0 || listen(fd, BACKLOG) < 0) {
        int saved = errno;

        freeaddrinfo(found);
        return err_errno(saved, "cannot listen on '%s'", c->tls_listen);
    }
    freeaddrinfo(found);
    *ret = fd_steal(&fd);
    return NULL;
}

struct err *listen_open(const struct config *c, int *ret_control, int *ret_tls)
{
    struct err *e = NULL;

    *ret_control = passed("control");
    *ret_tls = passed("tls");
    if (*ret_control < 0)
        e = open_control(c, ret_control);
    if (!e && *ret_tls < 0 && c->tls_listen)
        e = open_tls(c, ret_tls);
    return e;
}
