/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The start of a container. liblxc forks its monitor out of this process: whatever memory is in use here then stays
 * with the container, so the request is freed before. The monitor closes all fds but those it takes for sockets of
 * socket activation: that keeps the lock of presence.h open in it.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <lxc/lxccontainer.h>
#include <malloc.h>
#include <sys/stat.h>

#include "base/failpoint.h"
#include "base/fd.h"
#include "base/str.h"
#include "provisioning/ramdisk.h"
#include "runtime/container/address.h"
#include "runtime/container/cgroup.h"
#include "runtime/container/guest.h"
#include "runtime/container/lxc_config.h"
#include "runtime/container/presence.h"
#include "runtime/container/rootfs.h"
#include "runtime/container/shares.h"
#include "runtime/container/stop.h"
#include "storage/layout.h"
#include "storage/subvolume.h"

#define LOCK_FD 3
#define RUNNING_S 20
#define LOG_MAX ((size_t)256 * 1024)
#define LOG_LINES 6

static void container_put(struct lxc_container *c)
{
    lxc_container_put(c);
}
DEFINE_AUTO(struct lxc_container, container_put)

/* The text of an error line of liblxc's log: "lxc name date ERROR file - path:function:line - text". */
static const char *error_text(const char *line)
{
    const char *p = strstr(line, " ERROR ");

    p = p ? strstr(p, " - ") : NULL;
    p = p ? strstr(p + 3, " - ") : NULL;
    return p ? p + 3 : NULL;
}

/* The first errors of the attempt: they are nearest to the cause. */
static char *read_errors(const struct job *job)
{
    autofree char *path = lxc_config_log_path(job), *text = NULL;
    char *all = str_dup(""), *line, *rest;
    int count = 0;

    err_ignore(fd_read_file(path, LOG_MAX, &text, NULL));
    rest = text;
    while (count < LOG_LINES && (line = strsep(&rest, "\n"))) {
        const char *found = error_text(line);
        char *longer;

        if (!found)
            continue;
        longer = str_fmt("%s%s%.300s", all, count++ ? "; " : "", found);
        free(all);
        all = longer;
    }
    return all;
}

static struct err *prepare_directories(const struct job *job)
{
    autofree char *mount_point = lxc_config_mount_point(job), *log = lxc_config_log_path(job);
    struct err *e = fd_mkdirs(job->dir, 0711);

    if (!e)
        e = fd_mkdirs(mount_point, 0711);
    /* The container's root, an ordinary user here, passes through to what is mounted into the container. */
    if (!e && (chmod(job->target.run_dir, 0711) < 0 || chmod(job->dir, 0711) < 0))
        e = err_errno(errno, "'%s'", job->dir);
    if (!e && truncate(log, 0) < 0 && errno != ENOENT)
        e = err_errno(errno, "'%s'", log);
    return e;
}

static struct err *running(struct lxc_container *c, json_t **ret)
{
    pid_t pid = c->init_pid(c);

    if (pid <= 0)
        return err_new(ERR_HOST, "the container ended right after its start");
    *ret = json_pack("{s:i}", "init_pid", (int)pid);
    return NULL;
}

/* Somebody holds the lock: it runs already, or a start is under way whose worker is gone. */
static struct err *await_running(struct lxc_container *c, json_t **ret)
{
    if (!c->wait(c, "RUNNING", RUNNING_S))
        return err_new(ERR_BUSY, "the container is neither running nor stopped");
    return running(c, ret);
}

static struct err *start(struct lxc_container *c, const struct job *job)
{
    struct err *e = failpoint("start.before");
    autofree char *errors = NULL;

    if (e)
        return e;
    c->want_daemonize(c, true);
    c->want_close_all_fds(c, true);
    (void)malloc_trim(0);
    if (c->start(c, 0, NULL))
        return NULL;
    errors = read_errors(job);
    e = err_new(ERR_HOST, "liblxc could not start the container: %s", errors[0] ? errors : "no reason given");
    return err_reason(e, "START_FAILED");
}

/* The lock becomes LOCK_FD: liblxc keeps the fds up to the number in LISTEN_FDS open in its monitor. */
static struct err *take_lock(const struct job *job)
{
    autofd int lock = -1;
    struct err *e = presence_lock(job, &lock);

    if (e)
        return e;
    /* main left fd 3 free, so it is that one already. */
    if (lock == LOCK_FD)
        (void)fd_steal(&lock);
    else if (dup3(lock, LOCK_FD, O_CLOEXEC) < 0)
        return err_errno(errno, "dup3");
    return setenv("LISTEN_FDS", "3", 1) < 0 ? err_errno(errno, "setenv") : NULL;
}

/* liblxc moves the caller of a start into the monitor's cgroup, too. */
static void leave_cgroup(const struct job *job)
{
    autofree char *monitor = str_fmt("m%lld", (long long)job->target.slot);

    cgroup_leave(job->target.cgroup, monitor);
}

static struct err *set_ramdisk(const struct job *job, const struct job_start *a)
{
    if (a->ramdisk_bytes == 0)
        return ramdisk_unmount(job->target.run_dir, job->target.slot);
    return ramdisk_mount(job->target.run_dir, job->target.slot, a->ramdisk_bytes, (uid_t)a->id_base);
}

/* A container whose disk is at its limit gets its key, its environment and its mount points all the same: what the
 * limit keeps out is the owner's, and a removed key must go. A crash in between is followed by another start. */
static struct err *write_files(const struct job *job, const struct job_start *a, json_t *written)
{
    struct err *e = guest_lift_limit(job, a->disk_bytes, true);

    if (!e)
        e = failpoint("start.lifted");
    if (!e && written)
        e = guest_write_files(job, a->files, written);
    if (!e)
        e = guest_make_mount_points(job, a->ramdisk_bytes > 0, json_array_size(a->kits) > 0);
    return err_first(e, guest_lift_limit(job, a->disk_bytes, false));
}

static struct err *launch(struct lxc_container *c, const struct job *job, struct job_start *a, json_t *written)
{
    struct err *e = stop_clean(job);

    if (!e)
        e = set_ramdisk(job, a);
    if (!e)
        e = write_files(job, a, written);
    if (!e)
        e = shares_open(job);
    if (!e && a->shares)
        e = shares_agree(job, a->id_base, a->shares, NULL);
    if (!e)
        e = rootfs_mount(job, a->id_base);
    if (!e)
        e = lxc_config_fill(c, job, a);
    json_table_clear(&job_start_table, a);
    if (!e)
        e = start(c, job);
    if (e) {
        /* Nothing but a monitor on its way out holds the lock then. */
        (void)close(LOCK_FD);
        leave_cgroup(job);
        e = err_first(e, stop_container(job, 0));
    }
    return e;
}

struct err *job_do_start(const struct job *job, void *args, json_t **ret)
{
    autofree char *rootfs = layout_rootfs(job->target.pool, job->target.slot);
    autojson files = json_incref(((struct job_start *)args)->files);
    auto_(container_put) struct lxc_container *c = NULL;
    autojson written = files ? json_object() : NULL;
    autofree char *project = str_dup(((struct job_start *)args)->ramdisk_project);
    autofree char *gateway4 = str_dup(((struct job_start *)args)->gateway4),
                  *gateway6 = str_dup(((struct job_start *)args)->gateway6),
                  *gateway_mac = str_dup(((struct job_start *)args)->gateway_mac);
    const int64_t bytes = ((struct job_start *)args)->ramdisk_bytes, id_base = ((struct job_start *)args)->id_base;
    const bool has_ipv6 = ((struct job_start *)args)->ipv6 != NULL;
    struct in6_addr ipv6;
    struct err *e;

    if (has_ipv6 && inet_pton(AF_INET6, ((struct job_start *)args)->ipv6, &ipv6) != 1)
        return err_field("ipv6", "must be an IPv6 address");
    if (!subvolume_exists(rootfs))
        return err_new(ERR_NOT_FOUND, "the container has no root file system");
    e = prepare_directories(job);
    if (!e)
        e = take_lock(job);
    if (e && e->code != ERR_BUSY)
        return e;
    c = lxc_container_new(job->name, job->target.run_dir);
    if (!c)
        return err_first(e, err_new(ERR_HOST, "liblxc does not take the container '%s'", job->name));
    if (e) {
        err_free(e);
        return await_running(c, ret);
    }
    e = launch(c, job, args, written);
    if (!e)
        e = failpoint("start.after");
    if (!e)
        e = running(c, ret);
    if (e)
        return e;
    /* Without it the container works as well, two seconds later. */
    if (has_ipv6)
        err_ignore(address_use_at_once(c->init_pid(c), &ipv6));
    if (gateway_mac) /* without them it asks */
        err_ignore(address_know_gateways(c->init_pid(c), gateway4, gateway6, gateway_mac));
    if (project) {
        e = guest_share_ramdisk(job, project, bytes, id_base, c->init_pid(c));
        json_object_set_new(*ret, "ramdisk_error", e ? json_string(err_message(e)) : json_null());
        err_ignore(e);
    }
    if (files) {
        guest_verify_files(job, files, written);
        json_object_update(*ret, written);
    }
    return NULL;
}
