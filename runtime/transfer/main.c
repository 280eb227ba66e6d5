/* SPDX-License-Identifier: Apache-2.0 */
/* noded-importer: the jobs that need libraries which no container's monitor shall carry: for archives, signatures and
 * TLS. Started by noded-worker only, in its place. */
#include "runtime/worker.h"

static const struct worker_row rows[JOB_KIND_MAX] = {
    [JOB_IMAGE_IMPORT] = {job_do_image_import, sizeof(struct job_image_import), false},
    [JOB_IMAGE_FETCH] = {job_do_image_fetch, sizeof(struct job_image_fetch), false},
    [JOB_IMAGE_PUBLISH] = {job_do_image_publish, sizeof(struct job_image_publish), true},
    [JOB_IMAGE_REMOVE] = {job_do_image_remove, sizeof(struct job_image), false},
    [JOB_EXPORT] = {job_do_export, sizeof(struct job_export), true},
    [JOB_IMPORT] = {job_do_import, sizeof(struct job_import), true},
    [JOB_IMAGE_BASE] = {job_do_image_base, sizeof(struct job_image_base), false},
    [JOB_IMAGE_BASE_REMOVE] = {job_do_image_base_remove, sizeof(struct job_image_base), false},
    [JOB_KIT_INSTALL] = {job_do_kit_install, sizeof(struct job_kit_install), false},
    [JOB_KIT_REMOVE] = {job_do_kit_remove, sizeof(struct job_kit_remove), false},
    [JOB_PEER_CALL] = {job_do_peer_call, sizeof(struct job_peer_call), false},
    [JOB_PEER_SEND] = {job_do_peer_send, sizeof(struct job_peer_send), true},
    [JOB_PEER_FORGET] = {job_do_peer_forget, sizeof(struct job_peer_forget), true},
    [JOB_PEER_COPY] = {job_do_peer_copy, sizeof(struct job_peer_fetch), true},
    [JOB_PEER_SYNC] = {job_do_peer_sync, sizeof(struct job_peer_fetch), true},
};

int main(void)
{
    /* The locale stays C: in another one libarchive would change names that are UTF-8 to one of their forms. */
    return worker_main(rows, WORKER_REQUEST_FD, NULL);
}
