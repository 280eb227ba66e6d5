/* SPDX-License-Identifier: Apache-2.0 */
/* One job in the worker: what the functions behind the job table get. */
#pragma once

#include "jobs/jobs.h"

struct job {
    struct job_target target;
    char *name;  /* of the container for liblxc and in the run directory: "c<slot>"; NULL when the job is about none */
    char *dir;   /* <run_dir>/c<slot>, or NULL */
    int channel; /* where frames go */
    int stream;  /* bytes that it reads or writes; -1: none */
};

/* args is the struct that belongs to the job's kind; the function may clear it early to save memory. *ret is the
 * result's JSON, the caller's; left NULL it becomes {}. */
typedef struct err *(*job_fn)(const struct job *job, void *args, json_t **ret);

/* Tells noded how far the job has got; what cannot be told is not. */
void job_progress(const struct job *job, int64_t done, int64_t total);

struct err *job_do_pool_open(const struct job *job, void *args, json_t **ret);
struct err *job_do_pool_prepare(const struct job *job, void *args, json_t **ret);
struct err *job_do_pool_grow(const struct job *job, void *args, json_t **ret);
struct err *job_do_pool_close(const struct job *job, void *args, json_t **ret);
struct err *job_do_image_import(const struct job *job, void *args, json_t **ret);
struct err *job_do_image_fetch(const struct job *job, void *args, json_t **ret);
struct err *job_do_image_publish(const struct job *job, void *args, json_t **ret);
struct err *job_do_image_remove(const struct job *job, void *args, json_t **ret);
struct err *job_do_export(const struct job *job, void *args, json_t **ret);
struct err *job_do_import(const struct job *job, void *args, json_t **ret);
struct err *job_do_image_base(const struct job *job, void *args, json_t **ret);
struct err *job_do_image_base_remove(const struct job *job, void *args, json_t **ret);
struct err *job_do_kit_install(const struct job *job, void *args, json_t **ret);
struct err *job_do_kit_remove(const struct job *job, void *args, json_t **ret);
struct err *job_do_kits(const struct job *job, void *args, json_t **ret);
struct err *job_do_inventory(const struct job *job, void *args, json_t **ret);
struct err *job_do_usage(const struct job *job, void *args, json_t **ret);
struct err *job_do_reclaim(const struct job *job, void *args, json_t **ret);
struct err *job_do_scrub(const struct job *job, void *args, json_t **ret);
struct err *job_do_create(const struct job *job, void *args, json_t **ret);
struct err *job_do_sync_make(const struct job *job, void *args, json_t **ret);
struct err *job_do_sync_swap(const struct job *job, void *args, json_t **ret);
struct err *job_do_peer_call(const struct job *job, void *args, json_t **ret);
struct err *job_do_peer_send(const struct job *job, void *args, json_t **ret);
struct err *job_do_peer_forget(const struct job *job, void *args, json_t **ret);
struct err *job_do_peer_copy(const struct job *job, void *args, json_t **ret);
struct err *job_do_peer_sync(const struct job *job, void *args, json_t **ret);
struct err *job_do_shares(const struct job *job, void *args, json_t **ret);
struct err *job_do_mounts_look(const struct job *job, void *args, json_t **ret);
struct err *job_do_mounts_restore(const struct job *job, void *args, json_t **ret);
struct err *job_do_start(const struct job *job, void *args, json_t **ret);
struct err *job_do_claim(const struct job *job, void *args, json_t **ret);
struct err *job_do_trim(const struct job *job, void *args, json_t **ret);
struct err *job_do_stop(const struct job *job, void *args, json_t **ret);
struct err *job_do_ipv6(const struct job *job, void *args, json_t **ret);
struct err *job_do_settle(const struct job *job, void *args, json_t **ret);
struct err *job_do_freeze(const struct job *job, void *args, json_t **ret);
struct err *job_do_thaw(const struct job *job, void *args, json_t **ret);
struct err *job_do_look(const struct job *job, void *args, json_t **ret);
struct err *job_do_destroy(const struct job *job, void *args, json_t **ret);
struct err *job_do_tidy(const struct job *job, void *args, json_t **ret);
struct err *job_do_snapshot_create(const struct job *job, void *args, json_t **ret);
struct err *job_do_snapshot_delete(const struct job *job, void *args, json_t **ret);
struct err *job_do_snapshot_restore(const struct job *job, void *args, json_t **ret);
struct err *job_do_env_write(const struct job *job, void *args, json_t **ret);
struct err *job_do_ssh_write(const struct job *job, void *args, json_t **ret);
struct err *job_do_disk(const struct job *job, void *args, json_t **ret);
struct err *job_do_ramdisk_set(const struct job *job, void *args, json_t **ret);
struct err *job_do_ramdisk_drop(const struct job *job, void *args, json_t **ret);
