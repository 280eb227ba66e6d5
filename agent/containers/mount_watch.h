/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whether a running container still has what the node has mounted into it: ramdisk, shares, kits. systemd's soft-reboot
 * unmounts all of it while the init lives on, and so may the container's root. The kernel tells of every change of the
 * init's mount namespace (poll of /proc/PID/mountinfo); then a job looks, and what is gone is mounted again, which an
 * event tells. A container that keeps unmounting gets it back less often, and one that keeps mounting is looked at less
 * often: it costs the node little whatever it does. Not while an operation holds the container, nor while its systemd
 * is on its way down. Loop thread only.
 */
#pragma once

#include "agent/agent.h"

struct mount_watch;

struct mount_watch *mount_watch_start(struct agent *a);
void mount_watch_close(struct mount_watch *w, void *owner, void (*closed)(void *owner));
/* c->init_pid has begun to run, or was found running; and it runs no more. */
void mount_watch_begin(struct agent *a, struct container *c);
void mount_watch_end(struct container *c);
