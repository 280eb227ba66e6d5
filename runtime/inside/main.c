/* SPDX-License-Identifier: Apache-2.0 */
/* noded-inside: the jobs that ask systemd inside a container. A program of its own, because somebody waits for them: to
 * load what noded-importer needs takes longer than most of them. Started by noded-worker only, in its place. */
#include "runtime/worker.h"

static const struct worker_row rows[JOB_KIND_MAX] = {
    [JOB_KITS] = {job_do_kits, sizeof(struct job_kits), true},
    [JOB_CLAIM] = {job_do_claim, sizeof(struct job_claim), true},
    [JOB_MOUNTS_RESTORE] = {job_do_mounts_restore, sizeof(struct job_mounts), true},
    [JOB_LOOK] = {job_do_look, sizeof(struct job_look), true},
};

int main(void)
{
    return worker_main(rows, WORKER_REQUEST_FD, NULL);
}
