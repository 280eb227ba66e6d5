/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Looking into a running container. All of this runs inside of it, as its own root and under limits, and believes
 * nothing: counts and lengths are bounded, and who waits for the answer kills it when the time is over.
 */
#pragma once

#include <jansson.h>

/* Sockets that wait for clients: [{protocol, port, ip, pid, user, program, path, args}]. */
json_t *look_sockets(void);
/* Services of systemd: [{name, status, pid, unit, load, active, sub, description, since, memory, cpu_usage, tasks,
 * restart_count}]; NULL when it does not answer. */
json_t *look_units(void);
