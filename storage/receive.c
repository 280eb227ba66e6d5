/* SPDX-License-Identifier: Apache-2.0 */
#include "storage/receive.h"

#include <btrfsutil.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/btrfs.h>
#include <linux/capability.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/confine.h"
#include "base/fd.h"
#include "storage/nested.h"
#include "storage/receive_apply.h"

enum { PIPE_SIZE = 1 << 20, ROOM_STEP = 16 << 20, MESSAGE_MAX = 512 };
#define FULL "the pool is full: more room is needed"

struct receiver {
    struct receive_limits limits;
    int64_t taken, room_checked, room; /* room: at the beginning */
    int root, in, out, report;         /* in, out: the pipe to the child; report: what it says in the end */
    int report_child;
    pid_t pid;
};

/* What the child says: how it went. */
struct report {
    bool ok;
    int code; /* enum err_code */
    char message[MESSAGE_MAX];
    struct receive_info info;
};

static void copy_name(char *to, size_t size, const char *name)
{
    snprintf(to, size, "%s", name);
}

static struct err *make_subvolume(int dir, const char *name, int parent, int *ret)
{
    struct btrfs_ioctl_vol_args_v2 args = {.fd = parent};
    struct err *e = NULL;

    copy_name(args.name, sizeof(args.name), name);
    if (ioctl(dir, parent < 0 ? BTRFS_IOC_SUBVOL_CREATE_V2 : BTRFS_IOC_SNAP_CREATE_V2, &args) < 0)
        return err_recode(err_errno(errno, "cannot make the subvolume '%s'", name),
                          errno == EEXIST ? ERR_INVALID : ERR_HOST);
    *ret = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (*ret < 0)
        return err_errno(errno, "subvolume '%s'", name);
    if (parent >= 0)
        e = nested_remove_places(parent, *ret);
    return e;
}

/* Root's rights over files, and none over the machine; four file descriptors, one directory. */
static struct err *confine_child(int fds[4])
{
    const struct confinement c = {.rights = 1u << CAP_CHOWN | 1u << CAP_DAC_OVERRIDE | 1u << CAP_DAC_READ_SEARCH |
                                            1u << CAP_FOWNER | 1u << CAP_FSETID | 1u << CAP_MKNOD | 1u << CAP_SETFCAP,
                                  .files = 64};
    struct err *e = confine_root(fds[0]);

    if (!e && !fd_keep_only(fds, 4))
        e = err_errno(errno, "cannot confine the receiver");
    (void)umask(0);
    return e ? e : confine(&c);
}

struct piped {
    int fd;
    size_t len, at;
    unsigned char buf[128 * 1024];
};

static struct err *read_pipe(void *owner, void *data, size_t len)
{
    struct piped *p = owner;
    unsigned char *out = data;

    while (len > 0) {
        size_t n = MIN(len, p->len - p->at);

        if (n == 0) {
            ssize_t got = read(p->fd, p->buf, sizeof(p->buf));

            if (got < 0 && errno == EINTR)
                continue;
            if (got <= 0)
                return got < 0 ? err_errno(errno, "read") : err_new(ERR_INVALID, "the stream ends too early");
            p->at = 0;
            p->len = (size_t)got;
            continue;
        }
        memcpy(out, p->buf + p->at, n);
        p->at += n;
        out += n;
        len -= n;
    }
    return NULL;
}

/* Nothing may come behind the end. */
static struct err *at_end(struct piped *p)
{
    char more;

    if (p->at == p->len && read(p->fd, &more, 1) == 0)
        return NULL;
    return err_new(ERR_INVALID, "the stream goes on behind its end");
}

static NORETURN void be_child(const struct receiver *r, int parent)
{
    int fds[4] = {r->root, parent, r->in, r->report_child};
    struct err *e = confine_child(fds);
    struct receive_apply a = {.root = fds[0], .parent = fds[1], .read = read_pipe};
    struct piped *p = mem_new(struct piped);
    struct report report = {0};

    p->fd = fds[2];
    a.owner = p;
    if (!e)
        e = receive_apply(&a);
    if (!e)
        e = at_end(p);
    report.ok = !e;
    if (e) {
        report.code = (int)e->code;
        snprintf(report.message, sizeof(report.message), "%s", err_message(e));
    }
    memcpy(report.info.uuid, a.uuid, sizeof(a.uuid));
    report.info.transid = a.transid;
    _exit(write(fds[3], &report, sizeof(report)) == (ssize_t)sizeof(report) ? 0 : 1);
}

static struct err *pipes(struct receiver *r)
{
    int data[2], report[2];

    if (pipe2(data, O_CLOEXEC) < 0)
        return err_errno(errno, "pipe");
    r->in = data[0];
    r->out = data[1];
    if (pipe2(report, O_CLOEXEC) < 0)
        return err_errno(errno, "pipe");
    r->report = report[0];
    r->report_child = report[1];
    (void)fcntl(r->out, F_SETPIPE_SZ, PIPE_SIZE);
    return NULL;
}

struct err *receive_begin(int dir, const char *name, int parent, const struct receive_limits *limits,
                          struct receiver **ret)
{
    auto_(receive_free) struct receiver *r = mem_new(struct receiver);
    struct err *e;

    *r = (struct receiver){
        .limits = *limits, .root = -1, .in = -1, .out = -1, .report = -1, .report_child = -1, .pid = -1};
    e = make_subvolume(dir, name, parent, &r->root);
    if (!e)
        e = pipes(r);
    if (e)
        return e;
    r->pid = fork();
    if (r->pid < 0)
        return err_errno(errno, "fork");
    if (r->pid == 0)
        be_child(r, parent);
    close(fd_steal(&r->in));
    close(fd_steal(&r->report_child));
    *ret = steal(&r);
    return NULL;
}

/* How the child ended: what it says, or that it says nothing. */
static struct err *verdict(struct receiver *r, struct receive_info *ret)
{
    struct report report = {0};
    ssize_t n;
    int status = 0;

    fd_closep(&r->out);
    r->out = -1;
    do
        n = read(r->report, &report, sizeof(report));
    while (n < 0 && errno == EINTR);
    while (waitpid(r->pid, &status, 0) < 0 && errno == EINTR)
        continue;
    r->pid = -1;
    if (n != (ssize_t)sizeof(report))
        return err_new(ERR_HOST, "the receiver of a stream ended with status %d", status);
    report.message[MESSAGE_MAX - 1] = '\0';
    if (!report.ok)
        return err_new(report.code >= 0 && report.code < ERR_CODE_MAX ? (enum err_code)report.code : ERR_HOST, "%s",
                       report.message);
    if (ret)
        *ret = report.info;
    return NULL;
}

/* What was written and is not on disk yet does not show in the file system's numbers. */
static struct err *check_room(struct receiver *r)
{
    struct statvfs st;
    int64_t room;

    if (r->room_checked && r->taken - r->room_checked < ROOM_STEP)
        return NULL;
    if (fstatvfs(r->root, &st) < 0)
        return err_errno(errno, "statvfs");
    room = (int64_t)(st.f_bavail * st.f_frsize);
    if (!r->room_checked)
        r->room = room;
    r->room_checked = MAX(r->taken, 1);
    return MIN(room, r->room - r->taken) < r->limits.reserve ? err_new(ERR_HOST, FULL) : NULL;
}

struct err *receive_feed(struct receiver *r, const void *data, size_t len)
{
    const char *p = data;
    struct err *e;

    r->taken += (int64_t)len;
    if (r->taken > r->limits.bytes)
        return err_new(ERR_TOO_LARGE, "the stream is longer than %lld bytes", (long long)r->limits.bytes);
    e = check_room(r);
    while (!e && len > 0) {
        ssize_t n = write(r->out, p, len); /* SIGPIPE is ignored by all our programs */

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            e = verdict(r, NULL);
            return e ? e : err_new(ERR_INVALID, "the stream goes on behind its end");
        }
        p += n;
        len -= (size_t)n;
    }
    return e;
}

struct err *receive_end(struct receiver *r, struct receive_info *ret)
{
    struct err *e = verdict(r, ret);

    /* The next one's look at the room shall see it. */
    if (!e && r->taken > ROOM_STEP && syncfs(r->root) < 0)
        e = err_errno(errno, "the received subvolume cannot be written to disk");
    return e;
}

void receive_free(struct receiver *r)
{
    if (!r)
        return;
    if (r->pid > 0) {
        (void)kill(r->pid, SIGKILL);
        while (waitpid(r->pid, NULL, 0) < 0 && errno == EINTR)
            continue;
    }
    fd_closep(&r->root);
    fd_closep(&r->in);
    fd_closep(&r->out);
    fd_closep(&r->report);
    fd_closep(&r->report_child);
    free(r);
}

struct err *receive_mark(const char *path, const struct receive_info *info)
{
    struct btrfs_ioctl_received_subvol_args args = {.stransid = info->transid};
    autofd int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

    memcpy(args.uuid, info->uuid, sizeof(info->uuid));
    if (fd < 0)
        return err_errno(errno, "'%s'", path);
    if (ioctl(fd, BTRFS_IOC_SET_RECEIVED_SUBVOL, &args) < 0 ||
        btrfs_util_set_subvolume_read_only_fd(fd, true) != BTRFS_UTIL_OK)
        return err_errno(errno, "cannot mark the subvolume '%s' as received", path);
    return NULL;
}
