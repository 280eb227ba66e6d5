/* SPDX-License-Identifier: Apache-2.0 */
#include "runtime/container/stop.h"

#include <poll.h>
#include <signal.h>
#include <sys/pidfd.h>

#include "base/clock.h"
#include "base/failpoint.h"
#include "base/fd.h"
#include "base/str.h"
#include "runtime/container/cgroup.h"
#include "runtime/container/presence.h"
#include "runtime/container/rootfs.h"
#include "runtime/container/shares.h"

/* How long the kernel may take to end killed processes, and then the monitor to clean up behind them. */
#define KILL_MS 20000
#define MONITOR_MS 5000
#define THAW_MS 2000
#define ASK_AGAIN_MS 1000
#define ROUND_MS 20
#define SETTLE_MS 20000
#define PAUSE_MS 5

/* systemd powers off by SIGRTMIN+3. Other inits (busybox, sysvinit, OpenRC on either) do not wait for it and take
 * SIGPWR, sysvinit by the line "powerwait" of its inittab. Which signals a process waits for, blocked for a signalfd or
 * by a handler, is in /proc/PID/status (proc(5)). */
static int halt_signal(pid_t init)
{
    const int ours = SIGRTMIN + 3;
    autofree char *path = str_fmt("/proc/%d/status", init), *text = NULL;
    static const char *const masks[] = {"\nSigBlk:", "\nSigCgt:"};

    err_ignore(fd_read_file(path, 65536, &text, NULL));
    for (size_t i = 0; text && i < ARRAY_LEN(masks); i++) {
        const char *line = strstr(text, masks[i]);

        if (line && (strtoull(line + strlen(masks[i]), NULL, 16) >> (ours - 1) & 1))
            return ours;
    }
    return SIGPWR;
}

struct err *stop_clean(const struct job *job)
{
    autofree char *monitor = str_fmt("m%lld", (long long)job->target.slot);
    struct err *e;

    cgroup_kill(job->target.cgroup, job->name);
    cgroup_thaw_inside(job->target.cgroup, job->name);
    e = cgroup_remove(job->target.cgroup, job->name);
    e = err_first(e, cgroup_remove(job->target.cgroup, monitor));
    e = err_first(e, shares_close(job));
    return err_first(e, rootfs_unmount(job));
}

/* A pidfd of init as it is now; -1 when there is none. *ret_pid (may be NULL): of it. */
static int open_init(const struct job *job, pid_t *ret_pid)
{
    struct presence before, after;
    int fd;

    presence_look(job, &before);
    if (!before.init)
        return -1;
    if (ret_pid)
        *ret_pid = before.init;
    fd = pidfd_open(before.init, 0);
    /* The pid may have been reused between the look and the open; not if it is init still. */
    presence_look(job, &after);
    if (fd >= 0 && after.init != before.init) {
        close(fd);
        return -1;
    }
    return fd;
}

/* ERR_CANCELLED when noded hangs up: the container is to be ended otherwise, and nothing was done but to ask it.
 * Asked more than once: an init that has not set its handlers up yet does not see the signal, and the kernel kills no
 * init by one that it does not handle. For a systemd that is on its way down, the next one changes nothing. */
static struct err *ask_and_wait(const struct job *job, int64_t timeout_ms)
{
    pid_t pid = 0;
    autofd int init = open_init(job, &pid);
    struct pollfd both[] = {{.fd = init, .events = POLLIN}, {.fd = job->channel, .events = POLLRDHUP}};
    int64_t end = clock_mono_ms() + timeout_ms, left;

    while (init >= 0 && (left = end - clock_mono_ms()) > 0) {
        if (pidfd_send_signal(init, halt_signal(pid), NULL, 0) < 0)
            break;
        (void)poll(both, ARRAY_LEN(both), (int)MIN(left, ASK_AGAIN_MS));
        if (both[0].revents)
            break;
        if (both[1].revents)
            return err_new(ERR_CANCELLED, "it waits for the container's end no longer");
    }
    return NULL;
}

static struct err *kill_all(const struct job *job)
{
    int64_t begin = clock_mono_ms();
    struct presence p;

    for (;;) {
        autofd int init = open_init(job, NULL);

        presence_look(job, &p);
        if (!p.alive)
            return NULL;
        if (clock_mono_ms() - begin > KILL_MS)
            return err_new(ERR_TIMEOUT, "the container's processes do not end");
        /* With init all processes of its pid namespace end; the rest are those that entered from outside. */
        if (init >= 0)
            (void)pidfd_send_signal(init, SIGKILL, NULL, 0);
        cgroup_kill(job->target.cgroup, job->name);
        cgroup_thaw_inside(job->target.cgroup, job->name); /* after the signal: nothing of it runs again */
        if (p.monitor && clock_mono_ms() - begin > MONITOR_MS)
            (void)kill(p.monitor, SIGKILL);
        if (presence_wait_end(job, ROUND_MS))
            return NULL;
    }
}

struct err *stop_container(const struct job *job, int64_t timeout_ms)
{
    struct presence p;
    struct err *e = NULL;

    presence_look(job, &p);
    if (p.alive) {
        /* Frozen processes do not see signals. */
        if (cgroup_is_frozen(job->target.cgroup, job->name))
            err_ignore(cgroup_freeze(job->target.cgroup, job->name, false, THAW_MS));
        if (timeout_ms > 0)
            e = ask_and_wait(job, timeout_ms);
        if (!e)
            e = failpoint("stop.asked");
        if (e)
            return e;
        /* After a clean end the monitor needs a moment to give the link back and remove its cgroups. */
        presence_look(job, &p);
        if (timeout_ms == 0 || p.init || !presence_wait_end(job, MONITOR_MS))
            e = kill_all(job);
        if (e)
            return e;
    }
    return stop_clean(job);
}

struct err *job_do_stop(const struct job *job, void *args, UNUSED json_t **ret)
{
    const struct job_stop *a = args;

    if (a->timeout_ms < 0)
        return err_field("timeout_ms", "must not be negative");
    return stop_container(job, a->timeout_ms);
}

/* liblxc is not asked how far it is: its answer may never come. What hangs on its way up, on a pipe in the place of a
 * mount point for example, is ended. */
struct err *job_do_settle(const struct job *job, UNUSED void *args, json_t **ret)
{
    int64_t end = clock_mono_ms() + SETTLE_MS;
    bool runs = false;
    struct presence p;
    struct err *e;

    for (;;) {
        presence_look(job, &p);
        runs = presence_init_runs(&p);
        if (!p.alive || runs || clock_mono_ms() > end)
            break;
        (void)poll(NULL, 0, PAUSE_MS);
    }
    e = runs ? NULL : stop_container(job, 0);
    if (!e)
        *ret = json_pack("{s:b, s:i}", "running", runs, "init_pid", runs ? (int)p.init : 0);
    return e;
}
