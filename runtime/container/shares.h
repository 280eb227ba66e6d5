/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Directories of other containers, for this one at /hoody/shares/<id>. They are mounted on the host, on a small tmpfs
 * of the host's root at <run_dir>/c<slot>/shares that is bound into the container at its start; the kernel carries
 * later mounts and unmounts over (mount propagation) and locks their flags: the container's root cannot make a
 * read-only one writable (mount_namespaces(7), "Restrictions on mount namespaces").
 */
#pragma once

#include "runtime/job.h"

/* The tmpfs; the caller frees it. */
char *shares_path(const struct job *job);
/* Mounts the tmpfs, if it is not there. */
MUST_USE struct err *shares_open(const struct job *job);
/* Makes the mounts agree with `shares`, an array of struct share_mount (jobs/jobs.h). A directory that cannot be
 * mounted is no error of the call: *ret_problems (may be NULL) gets an object of its id and the reason. */
MUST_USE struct err *shares_agree(const struct job *job, int64_t id_base, const json_t *shares, json_t **ret_problems);
/* For a container in which some are not seen any more: unmounts all and mounts them again. The kernel carries that over
 * to wherever the tmpfs is mounted, and locks the flags there; a copy of these mounts would have no locks. */
MUST_USE struct err *shares_renew(const struct job *job, int64_t id_base, const json_t *shares, json_t **ret_problems);
/* Whether anything is mounted there. */
bool shares_any(const struct job *job);
/* Unmounts all, the tmpfs too; also what is in use. None is fine. */
MUST_USE struct err *shares_close(const struct job *job);
