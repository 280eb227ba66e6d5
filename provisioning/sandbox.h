/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A child for bytes that somebody else made. It has process, network, IPC and mount namespaces of its own, bounded
 * memory, no way to gain privileges, no file descriptor but those named, and of root's rights only what it needs. A
 * caller must be single-threaded (a worker is): the child goes on in the caller's code.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

/* Rights that the child keeps, as bits of linux/capability.h; all others are gone for good. */
#define SANDBOX_READS (UINT64_C(1) << 2)                                           /* any directory and file */
#define SANDBOX_MAKES (1 | UINT64_C(1) << 1 | 1 << 3 | 1 << 4 | UINT64_C(1) << 31) /* any owner, mode, capability */

struct sandbox {
    int root; /* directory that becomes its "/" */
    uint64_t rights;
    bool network;   /* keeps the host's */
    bool nobody;    /* runs as that account; has no rights then */
    const int *fds; /* kept open, with their numbers */
    size_t fd_count;
    /* Called now and then while it runs; may be NULL. */
    void *owner;
    void (*tick)(void *owner);
};

/* Runs fn there; its error, or *ret (the caller's; may be NULL JSON), comes back. A child that dies is ERR_INVALID: it
 * was what it read that killed it. */
MUST_USE struct err *sandbox_run(const struct sandbox *s, struct err *(*fn)(void *arg, json_t **ret), void *arg,
                                 json_t **ret);

/* Starts a program (argv[0] is its path) as nobody, with `in` as fd 0 and `out` as fd 1, both stay the caller's. It can
 * read what everybody can, and write to `out` only. */
MUST_USE struct err *sandbox_spawn(const char *const *argv, int in, int out, pid_t *ret_pid);
/* Waits for it; ERR_INVALID when it did not end well. That nobody took its output any more is no failure of its own. */
MUST_USE struct err *sandbox_reap(pid_t pid, const char *what);
