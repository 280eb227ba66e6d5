/* SPDX-License-Identifier: Apache-2.0 */
#include "base/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>

#include "base/fd.h"
#include "base/str.h"

enum { TRIES = 100, PAUSE_MS = 20, HOLDER_MAX = 512 };

static void pause_a_moment(void)
{
    const struct timespec t = {.tv_nsec = PAUSE_MS * 1000000L};

    (void)nanosleep(&t, NULL);
}

static struct err *held(int fd, const char *what)
{
    autofree char *line = NULL;

    err_ignore(fd_read_all(fd, HOLDER_MAX, &line, NULL));
    return err_new(ERR_BUSY, "%s is in use by %s: stop that process, or configure another place", what,
                   str_empty(line) ? "another process" : line);
}

struct err *lock_file(const char *path, const char *what, const char *holder, int *ret_fd)
{
    autofd int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

    if (fd < 0)
        return err_errno(errno, "cannot open '%s'", path);
    for (int i = 0; flock(fd, LOCK_EX | LOCK_NB) < 0; i++) {
        if (errno != EWOULDBLOCK && errno != EINTR)
            return err_errno(errno, "cannot lock '%s'", path);
        if (i == TRIES)
            return held(fd, what);
        pause_a_moment();
    }
    if (ftruncate(fd, 0) == 0)
        err_ignore(fd_write_all(fd, holder, strlen(holder))); /* on a full disk the lock holds without the line */
    *ret_fd = fd_steal(&fd);
    return NULL;
}

struct err *lock_name(const char *name, const char *what, int *ret_fd)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    autofd int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    size_t len = strlen(name);

    if (fd < 0)
        return err_errno(errno, "socket");
    if (len > sizeof(addr.sun_path) - 1)
        return err_new(ERR_INVALID, "the name '%s' is too long", name);
    memcpy(addr.sun_path + 1, name, len); /* the first byte stays 0: an abstract name */
    for (int i = 0;
         bind(fd, (struct sockaddr *)&addr, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + len)) < 0; i++) {
        if (errno != EADDRINUSE)
            return err_errno(errno, "cannot reserve '%s'", name);
        if (i == TRIES)
            return err_new(ERR_BUSY,
                           "%s is in use by another noded in this network namespace: stop that process, or configure "
                           "another name",
                           what);
        pause_a_moment();
    }
    *ret_fd = fd_steal(&fd);
    return NULL;
}
