/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A container's ramdisk: a tmpfs at <run_dir>/c<slot>/ramdisk on the host, bind-mounted at /ramdisk by the start.
 * It outlives a stop of the container and ends with an unmount or the host's reboot. Its root belongs to the
 * container's root; everybody in the container may write, as in /tmp.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

/* The mount point; the caller frees it. */
char *ramdisk_path(const char *run_dir, int64_t slot);
/* Mounts it, or sets the size of the one that is there, if its files fit. owner_uid is the host's number of the
 * container's root. */
MUST_USE struct err *ramdisk_mount(const char *run_dir, int64_t slot, int64_t bytes, uid_t owner_uid);
/* Unmounts it and removes the mount point; none is fine. */
MUST_USE struct err *ramdisk_unmount(const char *run_dir, int64_t slot);
/* The ramdisk that containers of a project share: a tmpfs of container ids at <run_dir>/p<project>, of which each has
 * an idmapped mount at /ramdisk/project. It ends when no container has it any more. */
char *ramdisk_project_path(const char *run_dir, const char *project_id);
MUST_USE struct err *ramdisk_project_mount(const char *run_dir, const char *project_id, int64_t bytes);
MUST_USE struct err *ramdisk_project_unmount(const char *run_dir, const char *project_id);
bool ramdisk_mounted(const char *run_dir, int64_t slot);
/* What is in the one that is mounted at this path; -1 when none is. */
int64_t ramdisk_used(const char *path);
