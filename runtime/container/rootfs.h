/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The root file system as the container's ids see it: an idmapped mount of it at <run_dir>/c<slot>/rootfs, from which
 * liblxc takes it. liblxc could map it by itself (lxc.rootfs.options = idmap=...), but forgets to when the container
 * reboots from the inside: it clears its mount options at the end of every run (5.0.2 up to at least 6.0).
 */
#pragma once

#include "runtime/job.h"

/* The mount point; the caller frees it. */
char *rootfs_mount_point(const struct job *job);
/* Replaces a mount that is there. id_base: the host's number of the container's root. */
MUST_USE struct err *rootfs_mount(const struct job *job, int64_t id_base);
/* Only when nothing of the container is alive. None is fine. */
MUST_USE struct err *rootfs_unmount(const struct job *job);
/* The subvolume `made`, of the same slot's directory, becomes the root file system; the old one is deleted. The
 * container must not run: ERR_WRONG_STATE else. `point`: failpoint between the two. */
MUST_USE struct err *rootfs_replace(const struct job *job, const char *made, const char *point);
bool rootfs_is_mounted(const struct job *job);
