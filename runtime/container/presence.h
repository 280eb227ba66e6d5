/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whether a container is there, from the kernel alone. The file <run_dir>/c<slot>/alive is locked by whoever starts the
 * container and, inherited over fork, by liblxc's monitor for as long as it lives. So a start that was under way when
 * its worker was killed is seen, too, and a dead one never is. Independent of liblxc's command socket, which has no
 * timeout and is bound to a network namespace.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "runtime/job.h"

struct presence {
    bool alive;    /* a start is under way, it runs, or the monitor still cleans up */
    pid_t monitor; /* 0 when not known (early or late in its life) */
    pid_t init;    /* 0 when there is none; a start under way may show a process that is not yet init */
};

void presence_look(const struct job *job, struct presence *ret);

/* Whether its init is one already, and not still liblxc's code before the exec. */
bool presence_init_runs(const struct presence *p);

/* Takes the lock for a start; the run directory must exist. ERR_BUSY when it is held. */
MUST_USE struct err *presence_lock(const struct job *job, int *ret_fd);

/* Waits until nothing is alive, at most timeout_ms; false when something still is. */
bool presence_wait_end(const struct job *job, int64_t timeout_ms);
