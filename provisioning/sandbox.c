/* SPDX-License-Identifier: Apache-2.0 */
#include "provisioning/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/confine.h"
#include "base/fd.h"
#include "base/frame.h"
#include "base/json_table.h"

enum { TICK_MS = 500, FD_LOW = 3, FD_FREE = 64, FD_MAX = 128 };
#define MEMORY_MAX ((rlim_t)1 << 30)
#define NAMESPACES (CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS)

static pid_t fork_apart(bool network)
{
    struct clone_args args = {.flags = NAMESPACES & ~(network ? (uint64_t)CLONE_NEWNET : 0), .exit_signal = SIGCHLD};

    return (pid_t)syscall(SYS_clone3, &args, sizeof(args));
}

static struct err *bound(void)
{
    const struct rlimit memory = {MEMORY_MAX, MEMORY_MAX};

#if !defined(__SANITIZE_ADDRESS__) /* its shadow memory alone is more */
    if (setrlimit(RLIMIT_AS, &memory) < 0)
        return err_errno(errno, "setrlimit");
#else
    (void)memory;
#endif
    return NULL;
}

/* Everything from FD_LOW on but those named and `own`. */
static void close_others(const struct sandbox *s, int own)
{
    for (int fd = FD_LOW; fd < FD_FREE; fd++) {
        bool keep = fd == own;

        for (size_t i = 0; i < s->fd_count; i++)
            keep = keep || s->fds[i] == fd;
        if (!keep)
            (void)close(fd);
    }
    (void)close_range(FD_FREE, ~0U, 0);
}

static void child(const struct sandbox *s, struct err *(*fn)(void *arg, json_t **ret), void *arg, int out)
{
    autojson frame = NULL;
    json_t *result = NULL;
    const struct confinement rights = {.rights = s->rights, .nobody = s->nobody, .files = FD_MAX};
    struct err *e = bound();

    if (!e)
        e = confine_root(s->root);
    close_others(s, out);
    if (!e)
        e = confine(&rights);
    if (!e)
        e = fn(arg, &result);
    frame = e ? json_pack("{s:o}", "error", err_to_json(e)) : json_pack("{s:o?}", "ok", result);
    e = frame_send(out, frame);
    _exit(e ? EXIT_FAILURE : EXIT_SUCCESS);
}

static struct err *await(const struct sandbox *s, int in, json_t **ret)
{
    autojson frame = NULL;
    struct pollfd p = {.fd = in, .events = POLLIN};
    struct err *e;
    int n;

    while ((n = poll(&p, 1, TICK_MS)) == 0 || (n < 0 && errno == EINTR))
        if (s->tick)
            s->tick(s->owner);
    e = frame_receive(in, &frame);
    if (e) {
        err_free(e);
        return err_new(ERR_INVALID, "what was read made the reader fail");
    }
    if (json_object_get(frame, "error"))
        return err_from_json(json_object_get(frame, "error"));
    *ret = json_incref(json_object_get(frame, "ok"));
    return NULL;
}

struct err *sandbox_run(const struct sandbox *s, struct err *(*fn)(void *arg, json_t **ret), void *arg, json_t **ret)
{
    struct err *e;
    int pair[2];
    pid_t pid;

    if (pipe2(pair, O_CLOEXEC) < 0)
        return err_errno(errno, "pipe");
    pid = fork_apart(s->network);
    if (pid == 0)
        child(s, fn, arg, pair[1]);
    close(pair[1]);
    if (pid < 0) {
        close(pair[0]);
        return err_errno(errno, "clone");
    }
    e = await(s, pair[0], ret);
    close(pair[0]);
    (void)kill(pid, SIGKILL);
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        ;
    return e;
}

static void become_program(const char *const *argv, int in, int out)
{
    static char *const environment[] = {(char *)(uintptr_t) "PATH=/usr/bin", NULL};
    const struct rlimit none = {0, 0};
    const struct confinement none_of_it = {.nobody = true, .files = FD_MAX};
    const struct sandbox nothing = {0};
    int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
    struct err *e = bound();

    if (e || null < 0 || dup2(in, 0) < 0 || dup2(out, 1) < 0 || dup2(null, 2) < 0)
        _exit(126);
    close_others(&nothing, -1);
    e = confine(&none_of_it);
    if (e || setrlimit(RLIMIT_FSIZE, &none) < 0)
        _exit(126);
    (void)signal(SIGPIPE, SIG_DFL);
    execve(argv[0], (char *const *)(uintptr_t)argv, environment);
    _exit(127);
}

struct err *sandbox_spawn(const char *const *argv, int in, int out, pid_t *ret_pid)
{
    pid_t pid = fork_apart(false);

    if (pid == 0)
        become_program(argv, in, out);
    if (pid < 0)
        return err_errno(errno, "clone");
    *ret_pid = pid;
    return NULL;
}

struct err *sandbox_reap(pid_t pid, const char *what)
{
    int status = 0;

    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            return err_errno(errno, "waitpid");
    if ((WIFEXITED(status) && WEXITSTATUS(status) == 0) || (WIFSIGNALED(status) && WTERMSIG(status) == SIGPIPE))
        return NULL;
    if (WIFEXITED(status) && WEXITSTATUS(status) == 127)
        return err_new(ERR_HOST, "%s: the program is not there; its package is squashfs-tools-ng", what);
    return err_new(ERR_INVALID, "%s: the file is damaged", what);
}
