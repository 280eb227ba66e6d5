/* SPDX-License-Identifier: Apache-2.0 */
/* File descriptors: -1 when empty, CLOEXEC from birth, closed by autofd. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include <unistd.h>

#include "base/err.h"

static inline void fd_closep(int *fd)
{
    if (*fd >= 0)
        close(*fd);
}
#define autofd __attribute__((cleanup(fd_closep)))

static inline int fd_steal(int *fd)
{
    int tmp = *fd;

    *fd = -1;
    return tmp;
}

/* Reads a whole file of at most `max` bytes; *ret_text is NUL-terminated and the caller's; ret_len may be NULL.
 * ERR_NOT_FOUND when the file is absent, ERR_TOO_LARGE over the limit. */
MUST_USE struct err *fd_read_file(const char *path, size_t max, char **ret_text, size_t *ret_len);
MUST_USE struct err *fd_read_all(int fd, size_t max, char **ret_text, size_t *ret_len);
/* Writes all bytes, retrying on EINTR. */
MUST_USE struct err *fd_write_all(int fd, const void *data, size_t len);
/* Replaces a file whole: a temporary beside it, fsync, rename. Never on a path below a rootfs. */
MUST_USE struct err *fd_replace_file(const char *path, const void *data, size_t len, mode_t mode);
/* Writes a short text to an existing kernel file (sysctl, cgroup). */
MUST_USE struct err *fd_write_kernel_file(const char *path, const char *text);
/* mkdir -p for a path of the agent's own trees. */
MUST_USE struct err *fd_mkdirs(const char *path, mode_t mode);
/* For a child that is about to be confined: fds become FD_KEPT, FD_KEPT + 1, ... (an empty one stays -1), everything
 * else is closed. At most 8. False: errno. */
enum { FD_KEPT = 10 };
bool fd_keep_only(int *fds, size_t count);
