/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A child enters all namespaces of the container's init, becomes the container's root and gives up what it does not
 * need. Its own child, the first one in the pid namespace, works, and writes each part of the answer as one line when
 * it has it: a service manager that does not answer does not cost the list of sockets. Being not dumpable, it cannot be
 * traced by anybody inside; it holds nothing of the host but the pipe.
 */
#include "runtime/inside/inside.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/str.h"
#include "runtime/container/presence.h"
#include "runtime/job.h"

enum { ANSWER_MAX = 1 << 20, PIPE_FD = 3 };

struct task {
    inside_fn *fn;
    void *arg;
    uint32_t capabilities;
};

#define NAMESPACES                                                                                                     \
    (CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP)

static bool limit(int resource, rlim_t max)
{
    const struct rlimit l = {.rlim_cur = max, .rlim_max = max};

    return setrlimit((__rlimit_resource_t)resource, &l) == 0;
}

bool inside_keep_capabilities(uint32_t wanted)
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2] = {{.effective = wanted, .permitted = wanted}};

    return syscall(SYS_capset, &head, data) == 0;
}

static bool become_root_of_container(uint32_t capabilities)
{
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && setgroups(0, NULL) == 0 && setresgid(0, 0, 0) == 0 &&
           setresuid(0, 0, 0) == 0 && inside_keep_capabilities(capabilities) &&
           prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == 0 && limit(RLIMIT_DATA, 64 << 20) && limit(RLIMIT_CPU, 2) &&
           limit(RLIMIT_NOFILE, 64) && limit(RLIMIT_CORE, 0) && limit(RLIMIT_FSIZE, 0);
}

void inside_tell(const char *name, json_t *part)
{
    autojson j = json_pack("{s:o}", name, part ? part : json_null());
    autofree char *text = json_dumps(j, JSON_COMPACT);
    autofree char *line = str_fmt("%s\n", text ? text : "{}");

    err_ignore(fd_write_all(PIPE_FD, line, strlen(line)));
}

NORETURN static void work(const struct task *t)
{
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    (void)clearenv();
    t->fn(t->arg);
    _exit(0);
}

/* Not dumpable before anybody inside can see us: a process that is still the host's root there would be a prize. Only
 * the pipe and /dev/null go in. */
NORETURN static void enter(int pidfd, int pipe_fd, const struct task *t)
{
    int status;
    pid_t pid;

    if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0 || setns(pidfd, NAMESPACES) < 0 ||
        dup2(STDIN_FILENO, STDOUT_FILENO) < 0 || dup2(STDIN_FILENO, STDERR_FILENO) < 0 ||
        (pipe_fd != PIPE_FD && dup2(pipe_fd, PIPE_FD) < 0) || close_range(PIPE_FD + 1, UINT32_MAX, 0) < 0 ||
        !become_root_of_container(t->capabilities))
        _exit(1);
    (void)fcntl(PIPE_FD, F_SETFD, FD_CLOEXEC);
    pid = fork();
    if (pid == 0)
        work(t);
    _exit(pid > 0 && waitpid(pid, &status, 0) == pid && status == 0 ? 0 : 1);
}

/* Reads until the other end is closed, the text is too long or the time is over. */
static size_t read_answer(int fd, char *text, int64_t patience_ms)
{
    int64_t end = clock_mono_ms() + patience_ms;
    size_t len = 0;

    while (len < ANSWER_MAX) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        int64_t left = end - clock_mono_ms();
        ssize_t n;

        if (left <= 0 || poll(&p, 1, (int)left) <= 0)
            break;
        n = read(fd, text + len, ANSWER_MAX - len);
        if (n <= 0)
            break;
        len += (size_t)n;
    }
    text[len] = '\0';
    return len;
}

/* The lines that are whole. */
static json_t *merge(char *text)
{
    json_t *all = json_object();
    char *end;

    for (char *line = text; (end = strchr(line, '\n')); line = end + 1) {
        autojson part = NULL;

        *end = '\0';
        part = json_loads(line, 0, NULL);
        if (part)
            json_object_update(all, part);
    }
    return all;
}

static struct err *ask(int pidfd, const struct task *t, int64_t patience_ms, json_t **ret)
{
    autofree char *text = mem_new_array(char, ANSWER_MAX + 1);
    int ends[2];
    pid_t pid;

    if (pipe2(ends, O_CLOEXEC) < 0)
        return err_errno(errno, "pipe");
    pid = fork();
    if (pid == 0)
        enter(pidfd, ends[1], t);
    close(ends[1]);
    if (pid > 0)
        (void)read_answer(ends[0], text, patience_ms);
    close(ends[0]);
    if (pid < 0)
        return err_errno(errno, "fork");
    (void)kill(pid, SIGKILL); /* the one inside goes with it */
    (void)waitpid(pid, NULL, 0);
    *ret = merge(text);
    return NULL;
}

struct err *inside_ask(const struct job *job, inside_fn *fn, void *arg, uint32_t capabilities, int64_t patience_ms,
                       json_t **ret)
{
    const struct task t = {fn, arg, capabilities};
    struct presence p, again;
    autofd int pidfd = -1;

    presence_look(job, &p);
    pidfd = p.init ? pidfd_open(p.init, 0) : -1;
    presence_look(job, &again); /* so the number was that init's when it was opened */
    if (pidfd < 0 || p.init != again.init)
        return err_new(ERR_WRONG_STATE, "the container is not running");
    return ask(pidfd, &t, patience_ms, ret);
}
