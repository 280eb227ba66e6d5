/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Starting another program: posix_spawn, a pidfd, nothing inherited but fds 0-2 and the ones named. posix_spawn and not
 * fork: its cost does not grow with the caller's memory.
 */
#pragma once

#include <sys/types.h>

#include "base/err.h"

struct spawn {
    const char *path;        /* absolute path of the program */
    const char *const *argv; /* NULL-terminated */
    const char *const *envp; /* NULL-terminated; NULL = the caller's environment */
    int fd3;                 /* becomes fd 3, or -1; must not be 3 itself when CLOEXEC matters (it is handled) */
    int fd4;                 /* becomes fd 4, or -1; needs an fd3 and must not be 3 */
    int stdin_fd, stdout_fd, stderr_fd; /* -1 = /dev/null (stderr: inherited) */
};

#define SPAWN_INIT                                                                                                     \
    {                                                                                                                  \
        .fd3 = -1, .fd4 = -1, .stdin_fd = -1, .stdout_fd = -1, .stderr_fd = -1                                         \
    }

/* Starts it in a session of its own with default signals. The caller owns the pidfd and must reap. */
MUST_USE struct err *spawn_start(const struct spawn *s, pid_t *ret_pid, int *ret_pidfd);
/* Reaps a child whose pidfd is readable; *ret_status as of wait(2) W* macros. */
MUST_USE struct err *spawn_reap(int pidfd, int *ret_status);
/* Runs to the end, blocking (worker and tools only). A non-zero exit is an error that quotes `what`. */
MUST_USE struct err *spawn_run(const struct spawn *s, const char *what);
