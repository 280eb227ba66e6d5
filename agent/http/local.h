/* SPDX-License-Identifier: Apache-2.0 */
/* The listener of the control socket: who connects is an operator, and is known by the uid. Loop thread only. */
#pragma once

#include "agent/http/http.h"

struct local_listener;
struct memory;

/* Takes over listen_fd (non-blocking, listening). http and memory must live longer. */
struct local_listener *local_listener_start(uv_loop_t *loop, int listen_fd, struct http_server *http,
                                            struct memory *memory);
/* Stops accepting; `closed` runs when the last connection has ended and memory is freed. */
void local_listener_close(struct local_listener *l, void *owner, void (*closed)(void *owner));
