/* SPDX-License-Identifier: Apache-2.0 */
#include "runtime/container/presence.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/pidfd.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/str.h"
#include "runtime/container/cgroup.h"

#define PAUSE_MS 2

static char *lock_path(const struct job *job)
{
    return str_fmt("%s/alive", job->dir);
}

static bool is_locked(const struct job *job)
{
    autofree char *path = lock_path(job);
    autofd int fd = open(path, O_RDWR | O_CLOEXEC);
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};

    return fd >= 0 && fcntl(fd, F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
}

struct err *presence_lock(const struct job *job, int *ret_fd)
{
    autofree char *path = lock_path(job);
    autofd int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};

    if (fd < 0)
        return err_errno(errno, "cannot open '%s'", path);
    if (fcntl(fd, F_OFD_SETLK, &lock) < 0)
        return err_recode(err_errno(errno, "cannot lock '%s'", path), errno == EAGAIN ? ERR_BUSY : ERR_HOST);
    *ret_fd = fd_steal(&fd);
    return NULL;
}

static bool is_zombie(pid_t pid)
{
    autofree char *path = str_fmt("/proc/%d/stat", (int)pid), *text = NULL;
    const char *end;

    err_ignore(fd_read_file(path, 4096, &text, NULL));
    end = text ? strrchr(text, ')') : NULL;
    return !end || end[1] == '\0' || end[2] == 'Z' || end[2] == 'X';
}

/* The monitor has no other child than init. */
static pid_t find_child(pid_t parent)
{
    autofree char *path = str_fmt("/proc/%d/task/%d/children", (int)parent, (int)parent), *text = NULL;
    char *word, *rest;

    err_ignore(fd_read_file(path, 4096, &text, NULL));
    rest = text;
    while ((word = strsep(&rest, " "))) {
        pid_t pid = (pid_t)strtol(word, NULL, 10);

        if (pid > 0 && !is_zombie(pid))
            return pid;
    }
    return 0;
}

void presence_look(const struct job *job, struct presence *ret)
{
    autofree char *name = str_fmt("m%lld", (long long)job->target.slot);
    autofree pid_t *pids = NULL;

    *ret = (struct presence){.alive = is_locked(job)};
    if (!ret->alive)
        return;
    pids = cgroup_pids(job->target.cgroup, name);
    /* liblxc moves the caller of a start there, too; it has no child. */
    for (size_t i = 0; pids[i] && !ret->init; i++) {
        if (pids[i] == getpid())
            continue;
        ret->monitor = pids[i];
        ret->init = find_child(pids[i]);
    }
}

bool presence_init_runs(const struct presence *p)
{
    autofree char *before = str_fmt("/proc/%d/exe", (int)p->monitor), *now = str_fmt("/proc/%d/exe", (int)p->init);
    struct stat monitor, init;

    return p->monitor && p->init && stat(before, &monitor) == 0 && stat(now, &init) == 0 &&
           (monitor.st_dev != init.st_dev || monitor.st_ino != init.st_ino);
}

bool presence_wait_end(const struct job *job, int64_t timeout_ms)
{
    int64_t end = clock_mono_ms() + timeout_ms;
    struct presence p;

    for (;;) {
        int64_t left = end - clock_mono_ms();
        autofd int pidfd = -1;

        presence_look(job, &p);
        if (!p.alive || left <= 0)
            return !p.alive;
        if (p.monitor)
            pidfd = pidfd_open(p.monitor, 0);
        if (pidfd >= 0)
            (void)poll(&(struct pollfd){.fd = pidfd, .events = POLLIN}, 1, (int)left);
        else
            (void)poll(NULL, 0, PAUSE_MS);
    }
}
