/* SPDX-License-Identifier: Apache-2.0 */
/* The process noded-relay from outside: starting one, finding one by its socket, ending them all. */
#pragma once

#include "agent/agent.h"

/* Starts the relay of c's configuration. *ret_fd: its control stream, not blocking; *ret_pidfd: to be reaped. */
MUST_USE struct err *relay_process_start(const struct agent *a, const struct container *c, int *ret_fd, int *ret_pidfd);
/* What its relay says in its hello when it has the present configuration; the caller frees it. */
char *relay_process_generation(const struct agent *a, const struct container *c);
/* A control stream to the relay of a slot, not blocking; -1: there is none. *ret_pidfd: the process. */
int relay_process_connect(const char *run_dir, int64_t slot, int *ret_pidfd);
/* Asks for its end. */
void relay_process_quit(int fd);
/* Removes what a relay that has ended leaves; false: it is still there. */
bool relay_process_clean(const struct config *config, int64_t slot);
/* Calls found for each slot with a socket. */
void relay_process_each(const char *run_dir, void (*found)(void *owner, int64_t slot), void *owner);
/* Ends all of a node and waits for it, blocking; for noded-down. */
MUST_USE struct err *relay_process_end_all(const struct config *config);
