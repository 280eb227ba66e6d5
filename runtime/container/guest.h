/* SPDX-License-Identifier: Apache-2.0 */
/* What the worker writes into a container's root besides seeding it, and the way into a running one. */
#pragma once

#include <sys/mount.h>

#include "provisioning/live.h"
#include "runtime/job.h"

/* live_open of the container's init. ERR_WRONG_STATE when it does not run. */
MUST_USE struct err *guest_open_live(const struct job *job, struct live *ret);

/* For a start: writes what `files` of the start has; *ret gets members of the result. An error when an ssh key cannot
 * be written; what else is not written stands in *ret only. */
MUST_USE struct err *guest_write_files(const struct job *job, const json_t *files, json_t *ret);
/* Lifts the limit of the container's disk (bytes; 0: it has none), or puts it back, around what the node itself writes.
 */
MUST_USE struct err *guest_lift_limit(const struct job *job, int64_t disk_bytes, bool lifted);
/* For a start: what liblxc mounts over are directories. It opens a FIFO in the place of one, and waits for its
 * writer. */
MUST_USE struct err *guest_make_mount_points(const struct job *job, bool ramdisk, bool kits);
/* The ramdisk of a project, for one more running container of it. */
MUST_USE struct err *guest_share_ramdisk(const struct job *job, const char *project, int64_t bytes, int64_t id_base,
                                         pid_t init);
/* The container's own ramdisk; init 0: it does not run, then there is nothing to mount it in. */
MUST_USE struct err *guest_give_ramdisk(const struct job *job, int64_t bytes, int64_t id_base, pid_t init);

/* Where something is mounted in a running container: one name in a directory of its root. */
struct guest_place {
    const char *dir, *name;
};
extern const struct guest_place guest_ramdisk_place, guest_shared_ramdisk_place;
/* A copy of what is mounted at a path of the host, to be mounted elsewhere; attr says how it differs, its propagation
 * above all: a mere copy would bring to the host what the container mounts in it. */
MUST_USE struct err *guest_clone(const char *path, struct mount_attr attr, int *ret_tree);
/* Mounts it there, unless something is mounted there already. */
MUST_USE struct err *guest_attach(pid_t init, const struct guest_place *place, int tree);

/* After the start: reads the environment back. */
void guest_verify_files(const struct job *job, const json_t *files, json_t *ret);
