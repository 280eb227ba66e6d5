/* SPDX-License-Identifier: Apache-2.0 */
#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

struct err *fd_read_all(int fd, size_t max, char **ret_text, size_t *ret_len)
{
    autofree char *text = NULL;
    size_t size = 0, len = 0;

    for (;;) {
        ssize_t n;

        if (size - len < 2) {
            size = size ? size * 2 : 4096;
            text = mem_grow(text, size, 1);
        }
        n = read(fd, text + len, size - len - 1);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_errno(errno, "read");
        if (n == 0)
            break;
        len += (size_t)n;
        if (len > max)
            return err_new(ERR_TOO_LARGE, "larger than %zu bytes", max);
    }
    text[len] = '\0';
    if (ret_len)
        *ret_len = len;
    *ret_text = steal(&text);
    return NULL;
}

struct err *fd_read_file(const char *path, size_t max, char **ret_text, size_t *ret_len)
{
    autofd int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);

    if (fd < 0)
        return err_recode(err_errno(errno, "cannot open '%s'", path), errno == ENOENT ? ERR_NOT_FOUND : ERR_HOST);
    return err_wrap(fd_read_all(fd, max, ret_text, ret_len), "'%s'", path);
}

struct err *fd_write_all(int fd, const void *data, size_t len)
{
    const char *p = data;

    while (len) {
        ssize_t n = write(fd, p, len);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_errno(errno, "write");
        p += n;
        len -= (size_t)n;
    }
    return NULL;
}

struct err *fd_replace_file(const char *path, const void *data, size_t len, mode_t mode)
{
    autofree char *tmp = NULL;
    autofd int fd = -1;
    struct err *e;

    if (asprintf(&tmp, "%s.XXXXXX", path) < 0)
        return err_new(ERR_INTERNAL, "out of memory");
    fd = mkostemp(tmp, O_CLOEXEC);
    if (fd < 0)
        return err_errno(errno, "cannot make a file beside '%s'", path);
    e = fd_write_all(fd, data, len);
    if (!e && (fchmod(fd, mode) < 0 || fsync(fd) < 0 || rename(tmp, path) < 0))
        e = err_errno(errno, "cannot replace");
    if (e)
        (void)unlink(tmp);
    return err_wrap(e, "'%s'", path);
}

struct err *fd_write_kernel_file(const char *path, const char *text)
{
    autofd int fd = open(path, O_WRONLY | O_CLOEXEC);

    if (fd < 0)
        return err_errno(errno, "cannot open '%s'", path);
    return err_wrap(fd_write_all(fd, text, strlen(text)), "'%s'", path);
}

struct err *fd_mkdirs(const char *path, mode_t mode)
{
    autofree char *copy = strdup(path);

    if (!copy)
        return err_new(ERR_INTERNAL, "out of memory");
    for (char *p = copy + 1;; p++) {
        char end = *p;

        if (end != '/' && end != '\0')
            continue;
        *p = '\0';
        if (mkdir(copy, mode) < 0 && errno != EEXIST)
            return err_errno(errno, "cannot make directory '%s'", copy);
        *p = end;
        if (end == '\0')
            return NULL;
    }
}

bool fd_keep_only(int *fds, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (fds[i] < 0)
            continue;
        fds[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, FD_KEPT + (int)count);
        if (fds[i] < 0)
            return false;
    }
    for (size_t i = 0; i < count; i++) {
        int to = FD_KEPT + (int)i;

        if (fds[i] < 0)
            (void)close(to);
        else if (dup2(fds[i], to) < 0)
            return false;
        else
            fds[i] = to;
    }
    return close_range(0, FD_KEPT - 1, 0) == 0 && close_range(FD_KEPT + (unsigned)count, ~0U, 0) == 0;
}
