/* SPDX-License-Identifier: Apache-2.0 */
/* systemd inside a container: org.freedesktop.systemd1(5), over the socket that systemctl uses as root. Only for what
 * runs inside (runtime/inside/inside.h). */
#pragma once

#include <systemd/sd-bus.h>

#define SYSTEMD "org.freedesktop.systemd1"
#define MANAGER SYSTEMD ".Manager"
#define MANAGER_PATH "/org/freedesktop/systemd1"

/* A call takes a second at most. NULL when systemd does not listen. */
sd_bus *bus_open(void);
