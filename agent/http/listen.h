/* SPDX-License-Identifier: Apache-2.0 */
/* Listening sockets: those that systemd passed by name ("control", "tls"), else made as the configuration says. */
#pragma once

#include "agent/config.h"

/* *ret_control is always a socket; *ret_tls is -1 when TLS is off. Non-blocking, CLOEXEC, the caller's. */
MUST_USE struct err *listen_open(const struct config *c, int *ret_control, int *ret_tls);
/* Before an exec of this program by itself: the sockets that systemd passed stay open for it. */
void listen_keep_passed(void);
