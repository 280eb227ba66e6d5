/* SPDX-License-Identifier: Apache-2.0 */
#include "storage/send.h"

#include <btrfsutil.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/btrfs.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"
#include "base/str.h"

enum { PIECE = 128 * 1024, PIPE_SIZE = 1 << 20 };

struct sending {
    int fd, in, out; /* the subvolume, borrowed; both ends of the pipe */
    uint64_t parent;
    pid_t pid;
};

static void sending_clear(struct sending *s)
{
    fd_closep(&s->in);
    fd_closep(&s->out);
}

static struct err *check_readonly(int fd)
{
    bool readonly = false;

    if (btrfs_util_get_subvolume_read_only_fd(fd, &readonly) != BTRFS_UTIL_OK)
        return err_errno(errno, "cannot look at the subvolume");
    return readonly ? NULL : err_new(ERR_WRONG_STATE, "the subvolume is not read-only");
}

static struct err *prepare(int parent, struct sending *s)
{
    struct err *e = check_readonly(s->fd);
    int ends[2];

    if (!e && parent >= 0)
        e = check_readonly(parent);
    if (!e && parent >= 0 && btrfs_util_subvolume_id_fd(parent, &s->parent) != BTRFS_UTIL_OK)
        e = err_errno(errno, "cannot look at the subvolume");
    if (e)
        return e;
    if (pipe2(ends, O_CLOEXEC) < 0)
        return err_errno(errno, "pipe");
    s->in = ends[0];
    s->out = ends[1];
    (void)fcntl(s->out, F_SETPIPE_SZ, PIPE_SIZE);
    return NULL;
}

/* The ioctl writes until it is over, so it has a process of its own. The parent is a clone source, too: what was copied
 * within the subvolume since needs no data. */
static NORETURN void ask_kernel(const struct sending *s)
{
    struct btrfs_ioctl_send_args args = {.send_fd = s->out, .parent_root = s->parent};
    uint64_t clones[1] = {s->parent};

    if (s->parent) {
        args.clone_sources = (__u64 *)clones;
        args.clone_sources_count = 1;
    }
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
        _exit(errno);
    _exit(ioctl(s->fd, BTRFS_IOC_SEND, &args) < 0 ? errno : 0);
}

static struct err *pass_on(const struct sending *s, send_sink_fn *sink, void *owner)
{
    autofree char *buf = mem_new_array(char, PIECE);

    for (;;) {
        struct pollfd p = {.fd = s->in, .events = POLLIN};
        bool idle = poll(&p, 1, SEND_IDLE_S * 1000) == 0;
        ssize_t n = idle ? 0 : read(s->in, buf, PIECE);
        struct err *e;

        if (n == 0 && !idle)
            return NULL;
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_errno(errno, "cannot read the stream of a subvolume");
        e = sink(owner, buf, (size_t)n);
        if (e)
            return e;
    }
}

struct err *send_stream_at(int subvolume, int parent, send_sink_fn *sink, void *owner)
{
    __attribute__((cleanup(sending_clear))) struct sending s = {.fd = subvolume, .in = -1, .out = -1};
    struct err *e = prepare(parent, &s);
    int status = 0;

    if (e)
        return e;
    s.pid = fork();
    if (s.pid < 0)
        return err_errno(errno, "fork");
    if (s.pid == 0)
        ask_kernel(&s);
    close(fd_steal(&s.out));
    e = pass_on(&s, sink, owner);
    if (e)
        (void)kill(s.pid, SIGKILL);
    while (waitpid(s.pid, &status, 0) < 0 && errno == EINTR)
        continue;
    if (!e && WIFSIGNALED(status))
        e = err_new(ERR_HOST, "sending the subvolume was cut by signal %d", WTERMSIG(status));
    else if (!e && WEXITSTATUS(status) != 0)
        e = err_errno(WEXITSTATUS(status), "cannot send the subvolume");
    return e;
}

static struct err *open_subvolume(const char *path, int *ret)
{
    *ret = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return *ret < 0 ? err_errno(errno, "'%s'", path) : NULL;
}

struct err *send_stream(const char *subvolume, const char *parent, send_sink_fn *sink, void *owner)
{
    autofd int fd = -1, other = -1;
    struct err *e = open_subvolume(subvolume, &fd);

    if (!e && parent)
        e = open_subvolume(parent, &other);
    return e ? e : err_wrap(send_stream_at(fd, other, sink, owner), "'%s'", subvolume);
}

bool send_name(const char *subvolume, char ret[SEND_NAME_SIZE], int64_t *ret_made)
{
    static const unsigned char none[16];
    struct btrfs_util_subvolume_info info;
    const unsigned char *uuid;

    if (btrfs_util_subvolume_info(subvolume, 0, &info) != BTRFS_UTIL_OK)
        return false;
    uuid = memcmp(info.received_uuid, none, sizeof(none)) == 0 ? info.uuid : info.received_uuid;
    str_hex(uuid, 16, ret);
    if (ret_made)
        *ret_made = (int64_t)info.otime.tv_sec * 1000 + info.otime.tv_nsec / 1000000;
    return true;
}
