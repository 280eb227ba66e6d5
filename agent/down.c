/* SPDX-License-Identifier: Apache-2.0 */
/*
 * noded-down: what has to be done to containers while noded does not run.
 *
 *   halt    stops them all, side by side. The host runs it when it goes down: without it the last step of a shutdown
 *           waits for their init processes, which do not end on SIGTERM. The next noded takes it for a boot of the
 *           host and starts what ran.
 *   purge   halt, then removes what noded made in the kernel: links, rules, mounts, cgroups, the run directory. With
 *           --data also every container, the pool and the database.
 *
 * A list of stages; each starts some jobs in workers and the next one begins when they are done. A failure is logged
 * and does not keep the rest from happening.
 */
#include <errno.h>
#include <ftw.h>
#include <getopt.h>
#include <glob.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/config.h"
#include "agent/locks.h"
#include "agent/network/relay_process.h"
#include "agent/worker.h"
#include "base/log.h"
#include "base/str.h"
#include "netfilter/netfilter.h"
#include "provisioning/ramdisk.h"
#include "store/store.h"

#define WORKERS 32

struct down {
    uv_loop_t loop;
    struct config *config;
    struct workers *workers;
    json_t *slots; /* of node.inventory */
    size_t stage, stage_count, pending, failures;
    bool data; /* --data */
};

static void begin_stage(struct down *d);

static void failed(struct down *d, struct err *e, const char *what)
{
    if (!e)
        return;
    d->failures++;
    log_err(NULL, LOG_LEVEL_ERR, e, what);
}

static void job_done(struct down *d)
{
    if (--d->pending > 0)
        return;
    d->stage++;
    begin_stage(d);
}

static void on_done(void *owner, struct err *e, json_t *result)
{
    failed(owner, e, "a job failed, going on");
    json_decref(result);
    job_done(owner);
}

static void on_inventory(void *owner, struct err *e, json_t *result)
{
    struct down *d = owner;

    failed(d, e, "what is there could not be found out, going on");
    d->slots = json_incref(json_object_get(result, "slots"));
    json_decref(result);
    job_done(d);
}

static void start_job(struct down *d, enum job_kind kind, int64_t slot, const void *args, int64_t extra_ms,
                      worker_done_fn *done)
{
    const struct job_target target = {
        .pool = d->config->pool, .run_dir = d->config->run_dir, .cgroup = d->config->cgroup, .slot = slot};

    d->pending++;
    workers_run(d->workers, kind, job_request(kind, &target, args), extra_ms, NULL, d, done);
}

/* --- stages */

/* A noded that finds another boot id than the recorded one starts what should run. */
static void stage_forget_boot(struct down *d)
{
    autofree char *path = str_fmt("%s/noded.db", d->config->state_dir);
    auto_(store_close) struct store *store = NULL;
    auto_(store_tx_free) struct store_tx *tx = store_tx_new();
    struct err *e;

    if (access(path, F_OK) < 0)
        return;
    store_tx_add(tx, STORE_META_PUT, json_pack("[s, s]", "boot_id", "halted"));
    e = store_open(path, &store);
    if (!e)
        e = store_commit(store, tx);
    failed(d, e, "the halt is not recorded, going on");
}

static void stage_inventory(struct down *d)
{
    start_job(d, JOB_INVENTORY, 0, NULL, 0, on_inventory);
}

static void stage_stop(struct down *d)
{
    const struct job_stop args = {.timeout_ms = d->config->stop_timeout_s * 1000};
    const json_t *slot;
    size_t i, count = 0;

    json_array_foreach(d->slots, i, slot)
    {
        if (json_integer_value(json_object_get(slot, "init_pid")) == 0 &&
            !json_is_true(json_object_get(slot, "leftovers")))
            continue;
        start_job(d, JOB_STOP, json_integer_value(json_object_get(slot, "slot")), &args, args.timeout_ms, on_done);
        count++;
    }
    log_notice(NULL, "stopping %zu containers", count);
}

static void stage_relays(struct down *d)
{
    failed(d, relay_process_end_all(d->config), "a relay stays, going on");
}

/* The file systems themselves. In a loop file of ours they go with the file. */
static void stage_destroy(struct down *d)
{
    const json_t *slot;
    size_t i;

    if (!d->data || d->config->loop_file)
        return;
    json_array_foreach(d->slots, i, slot)
        start_job(d, JOB_DESTROY, json_integer_value(json_object_get(slot, "slot")), NULL, 0, on_done);
}

static void stage_reclaim(struct down *d)
{
    const struct job_reclaim args = {.most = INT64_MAX};

    if (d->data && !d->config->loop_file)
        start_job(d, JOB_RECLAIM, 0, &args, 0, on_done);
}

static void stage_network(struct down *d)
{
    const struct config *c = d->config;
    struct nf_config nf_config = {.table = c->table};
    struct err *e = net_plan_init(&nf_config.plan, c->veth_prefix, c->ipv4_pool, c->ipv6_pool);
    struct nf *nf = NULL;

    if (!e)
        e = nf_open(&nf_config, &nf);
    if (!e)
        e = nf_uninstall(nf);
    nf_close(nf);
    failed(d, err_wrap(e, "network"), "the network is not cleaned up, going on");
}

static void stage_pool(struct down *d)
{
    const json_t *slot;
    size_t i;

    json_array_foreach(d->slots, i, slot)
        failed(d, ramdisk_unmount(d->config->run_dir, json_integer_value(json_object_get(slot, "slot"))),
               "a ramdisk stays, going on");
    start_job(d, JOB_POOL_CLOSE, 0, NULL, 0, on_done);
}

static void stage_ramdisks(struct down *d)
{
    autojson nobody = json_array();
    const struct job_ramdisk_drop args = {.keep = nobody};

    start_job(d, JOB_RAMDISK_DROP, 0, &args, 0, on_done);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path) == 0 || errno == ENOENT ? 0 : errno;
}

/* A cgroup goes by its directories alone. */
static int remove_cgroup(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)ftw;
    return type != FTW_DP || rmdir(path) == 0 || errno == ENOENT ? 0 : errno;
}

/* rm -rf that stays on one file system and follows no link. */
static void remove_tree(struct down *d, const char *path)
{
    int errnum = nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);

    if (errnum > 0 || (errnum < 0 && errno != ENOENT))
        failed(d, err_errno(errnum > 0 ? errnum : errno, "'%s'", path), "not removed, going on");
}

static void stage_run_files(struct down *d)
{
    static const char *const hierarchies[] = {"/sys/fs/cgroup", "/sys/fs/cgroup/*"};

    for (size_t i = 0; i < ARRAY_LEN(hierarchies); i++) {
        autofree char *pattern = str_fmt("%s/%s", hierarchies[i], d->config->cgroup);
        glob_t found;

        if (glob(pattern, 0, NULL, &found) != 0)
            continue;
        for (size_t k = 0; k < found.gl_pathc; k++) {
            int errnum = nftw(found.gl_pathv[k], remove_cgroup, 16, FTW_DEPTH | FTW_PHYS);

            if (errnum > 0)
                failed(d, err_errno(errnum, "'%s'", found.gl_pathv[k]), "a cgroup stays, going on");
        }
        globfree(&found);
    }
    remove_tree(d, d->config->run_dir);
}

/* What noded made in its state directory; archives and bundles there are the administrator's. */
static void stage_state(struct down *d)
{
    static const char *const names[] = {"noded.db", "noded.db-wal", "noded.db-shm", "noded.db.reserve", "lock"};

    if (!d->data)
        return;
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        autofree char *path = str_fmt("%s/%s", d->config->state_dir, names[i]);

        remove_tree(d, path);
    }
    if (d->config->loop_file) {
        remove_tree(d, d->config->loop_file);
        rmdir(d->config->pool);
    }
}

static void (*const stages[])(struct down *) = {
    stage_forget_boot, stage_inventory, stage_stop, stage_relays,    stage_destroy, stage_reclaim,
    stage_network,     stage_ramdisks,  stage_pool, stage_run_files, stage_state,
};
enum { HALT_STAGES = 4, PURGE_STAGES = ARRAY_LEN(stages) };

/* A stage that starts no job is over when it returns. */
static void begin_stage(struct down *d)
{
    while (d->stage < d->stage_count) {
        stages[d->stage](d);
        if (d->pending > 0)
            return;
        d->stage++;
    }
}

static const char usage[] =
    "noded-down - stop the containers, or remove all traces, while noded does not run\n"
    "\n"
    "Usage: noded-down [options] halt|purge\n"
    "  halt                 stop all containers; they start again with noded\n"
    "  purge                halt, then remove links, firewall table, mounts, cgroups and run files\n"
    "  -c, --config FILE    configuration (default " CONFIG_DEFAULT_PATH ")\n"
    "      --data           with purge: remove all containers, the pool and the database as well\n"
    "  -h, --help           print this and exit\n";

static int run(const char *config_path, size_t stage_count, bool data)
{
    struct down d = {.stage_count = stage_count, .data = data};
    struct locks locks = LOCKS_NONE;
    struct err *e = config_load(config_path, &d.config);

    if (e) {
        log_err(NULL, LOG_LEVEL_ERR, e, "configuration");
        return 1;
    }
    e = locks_take(d.config, &locks);
    if (e) {
        log_err(NULL, LOG_LEVEL_ERR, e, "nothing was done");
        config_free(d.config);
        return 1;
    }
    if (uv_loop_init(&d.loop) != 0)
        abort();
    d.workers = workers_new(&d.loop, d.config->worker, WORKERS);
    begin_stage(&d);
    uv_run(&d.loop, UV_RUN_DEFAULT);
    workers_free(d.workers);
    uv_loop_close(&d.loop);
    json_decref(d.slots);
    config_free(d.config);
    locks_release(&locks);
    return d.failures ? 1 : 0;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {{"config", required_argument, NULL, 'c'},
                                            {"data", no_argument, NULL, 'D'},
                                            {"help", no_argument, NULL, 'h'},
                                            {NULL, 0, NULL, 0}};
    const char *config_path = CONFIG_DEFAULT_PATH;
    bool data = false;
    int option;

    while ((option = getopt_long(argc, argv, "c:h", options, NULL)) >= 0) {
        if (option == 'c') {
            config_path = optarg;
        } else if (option == 'D') {
            data = true;
        } else {
            fputs(usage, option == 'h' ? stdout : stderr);
            return option == 'h' ? 0 : 2;
        }
    }
    log_open("noded-down", LOG_LEVEL_INFO, true);
    if (optind + 1 == argc && str_eq(argv[optind], "halt") && !data)
        return run(config_path, HALT_STAGES, false);
    if (optind + 1 == argc && str_eq(argv[optind], "purge"))
        return run(config_path, PURGE_STAGES, data);
    fputs(usage, stderr);
    return 2;
}
