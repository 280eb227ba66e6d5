/* SPDX-License-Identifier: Apache-2.0 */
#include "base/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/pidfd.h>
#include <sys/wait.h>

#include "base/fd.h"

static int set_up(const struct spawn *s, posix_spawn_file_actions_t *actions, posix_spawnattr_t *attr)
{
    sigset_t all, none;
    int rc = 0;

    sigfillset(&all);
    sigemptyset(&none);
    rc |= posix_spawnattr_setflags(attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSID);
    rc |= posix_spawnattr_setsigmask(attr, &none);
    rc |= posix_spawnattr_setsigdefault(attr, &all);
    /* dup2 of an fd onto itself clears CLOEXEC in the child, so 0..3 need no special case. */
    if (s->fd3 >= 0)
        rc |= posix_spawn_file_actions_adddup2(actions, s->fd3, 3);
    if (s->fd4 >= 0)
        rc |= posix_spawn_file_actions_adddup2(actions, s->fd4, 4);
    if (s->stdin_fd >= 0)
        rc |= posix_spawn_file_actions_adddup2(actions, s->stdin_fd, 0);
    else
        rc |= posix_spawn_file_actions_addopen(actions, 0, "/dev/null", O_RDONLY, 0);
    if (s->stdout_fd >= 0)
        rc |= posix_spawn_file_actions_adddup2(actions, s->stdout_fd, 1);
    else
        rc |= posix_spawn_file_actions_addopen(actions, 1, "/dev/null", O_WRONLY, 0);
    if (s->stderr_fd >= 0)
        rc |= posix_spawn_file_actions_adddup2(actions, s->stderr_fd, 2);
    rc |= posix_spawn_file_actions_addclosefrom_np(actions, s->fd4 >= 0 ? 5 : s->fd3 >= 0 ? 4 : 3);
    return rc;
}

struct err *spawn_start(const struct spawn *s, pid_t *ret_pid, int *ret_pidfd)
{
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attr;
    pid_t pid = -1;
    int rc;

    if (posix_spawn_file_actions_init(&actions) != 0)
        return err_new(ERR_INTERNAL, "out of memory");
    if (posix_spawnattr_init(&attr) != 0) {
        posix_spawn_file_actions_destroy(&actions);
        return err_new(ERR_INTERNAL, "out of memory");
    }
    rc = set_up(s, &actions, &attr);
    if (rc == 0)
        rc = posix_spawn(&pid, s->path, &actions, &attr, (char *const *)s->argv,
                         s->envp ? (char *const *)s->envp : environ);
    posix_spawnattr_destroy(&attr);
    posix_spawn_file_actions_destroy(&actions);
    if (rc != 0)
        return err_errno(rc, "cannot start '%s'", s->path);
    /* Nobody else reaps our children, so the pid cannot have been reused before this call. */
    *ret_pidfd = pidfd_open(pid, 0);
    if (*ret_pidfd < 0) {
        int saved = errno;

        kill(pid, SIGKILL);
        (void)waitpid(pid, NULL, 0);
        return err_errno(saved, "pidfd_open");
    }
    *ret_pid = pid;
    return NULL;
}

struct err *spawn_reap(int pidfd, int *ret_status)
{
    siginfo_t info = {0};

    while (waitid(P_PIDFD, (id_t)pidfd, &info, WEXITED) < 0)
        if (errno != EINTR)
            return err_errno(errno, "waitid");
    if (info.si_code == CLD_EXITED)
        *ret_status = (info.si_status & 0xff) << 8;
    else
        *ret_status = info.si_status & 0x7f;
    return NULL;
}

struct err *spawn_run(const struct spawn *s, const char *what)
{
    autofd int pidfd = -1;
    struct err *e;
    pid_t pid;
    int status = 0;

    e = spawn_start(s, &pid, &pidfd);
    if (!e)
        e = spawn_reap(pidfd, &status);
    if (e)
        return err_wrap(e, "%s", what);
    if (WIFSIGNALED(status))
        return err_new(ERR_HOST, "%s: killed by signal %d", what, WTERMSIG(status));
    if (WEXITSTATUS(status) != 0)
        return err_new(ERR_HOST, "%s: exit status %d", what, WEXITSTATUS(status));
    return NULL;
}
