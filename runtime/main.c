/* SPDX-License-Identifier: Apache-2.0 */
/*
 * noded-worker: one job, then the end. The request comes on fd 3, which is also where the result goes. It trusts noded
 * for what it asks, and nothing it finds in a container. It dies with noded; containers it started do not.
 *
 * Jobs that need archives or signatures are handed over to noded-importer, those that need the bus to noded-inside:
 * those libraries would cost every start time, and every container's monitor memory.
 */
#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/frame.h"
#include "runtime/worker.h"

#define IMPORTER "noded-importer"
#define INSIDE "noded-inside" /* not longer than the other */

static const struct worker_row rows[JOB_KIND_MAX] = {
    [JOB_POOL_OPEN] = {job_do_pool_open, sizeof(struct job_pool_open), false},
    [JOB_POOL_PREPARE] = {job_do_pool_prepare, sizeof(struct job_pool_open), false},
    [JOB_POOL_CLOSE] = {job_do_pool_close, 0, false},
    [JOB_INVENTORY] = {job_do_inventory, 0, false},
    [JOB_POOL_GROW] = {job_do_pool_grow, sizeof(struct job_pool_open), false},
    [JOB_USAGE] = {job_do_usage, 0, false},
    [JOB_RECLAIM] = {job_do_reclaim, sizeof(struct job_reclaim), false},
    [JOB_SCRUB] = {job_do_scrub, sizeof(struct job_scrub), false},
    [JOB_CREATE] = {job_do_create, sizeof(struct job_create), true},
    [JOB_SYNC_MAKE] = {job_do_sync_make, sizeof(struct job_sync), true},
    [JOB_SYNC_SWAP] = {job_do_sync_swap, 0, true},
    [JOB_SHARES] = {job_do_shares, sizeof(struct job_shares), true},
    [JOB_MOUNTS_LOOK] = {job_do_mounts_look, sizeof(struct job_mounts), true},
    [JOB_START] = {job_do_start, sizeof(struct job_start), true},
    [JOB_IPV6] = {job_do_ipv6, sizeof(struct job_ipv6), true},
    [JOB_TRIM] = {job_do_trim, 0, true},
    [JOB_STOP] = {job_do_stop, sizeof(struct job_stop), true},
    [JOB_SETTLE] = {job_do_settle, 0, true},
    [JOB_FREEZE] = {job_do_freeze, 0, true},
    [JOB_THAW] = {job_do_thaw, 0, true},
    [JOB_DESTROY] = {job_do_destroy, 0, true},
    [JOB_TIDY] = {job_do_tidy, 0, true},
    [JOB_SNAPSHOT_CREATE] = {job_do_snapshot_create, sizeof(struct job_snapshot), true},
    [JOB_SNAPSHOT_DELETE] = {job_do_snapshot_delete, sizeof(struct job_snapshot), true},
    [JOB_SNAPSHOT_RESTORE] = {job_do_snapshot_restore, sizeof(struct job_snapshot), true},
    [JOB_ENV_WRITE] = {job_do_env_write, sizeof(struct job_env), true},
    [JOB_SSH_WRITE] = {job_do_ssh_write, sizeof(struct job_ssh), true},
    [JOB_DISK] = {job_do_disk, sizeof(struct job_disk), true},
    [JOB_RAMDISK_SET] = {job_do_ramdisk_set, sizeof(struct job_ramdisk), true},
    [JOB_RAMDISK_DROP] = {job_do_ramdisk_drop, sizeof(struct job_ramdisk_drop), false},
};

static const char *program_of(const json_t *request)
{
    enum job_kind kind = job_kind_find(json_string_value(json_object_get(request, "job")));

    return kind == JOB_KITS || kind == JOB_CLAIM || kind == JOB_LOOK || kind == JOB_MOUNTS_RESTORE ? INSIDE : IMPORTER;
}

/* It stands beside this one. */
static struct err *find_program(const char *name, char ret[PATH_MAX])
{
    ssize_t n = readlink("/proc/self/exe", ret, PATH_MAX - sizeof(IMPORTER));
    char *slash;

    if (n < 0)
        return err_errno(errno, "/proc/self/exe");
    ret[n] = '\0';
    slash = strrchr(ret, '/');
    if (!slash)
        return err_new(ERR_INTERNAL, "'%s' is no path", ret);
    memcpy(slash + 1, name, strlen(name) + 1);
    return NULL;
}

static struct err *hand_over(int channel, const json_t *request)
{
    autofd int fd = memfd_create("request", MFD_CLOEXEC);
    char path[PATH_MAX];
    char *argv[] = {path, NULL};
    struct err *e = find_program(program_of(request), path);

    if (!e && fd < 0)
        e = err_errno(errno, "memfd_create");
    if (!e)
        e = frame_send(fd, request);
    if (e)
        return e;
    if (lseek(fd, 0, SEEK_SET) < 0 || (fd != WORKER_REQUEST_FD && dup2(fd, WORKER_REQUEST_FD) < 0) ||
        dup2(channel, WORKER_CHANNEL_FD) < 0)
        return err_errno(errno, "cannot hand over");
    execv(path, argv);
    return err_errno(errno, "cannot run '%s'", path);
}

int main(void)
{
    return worker_main(rows, WORKER_CHANNEL_FD, hand_over);
}
