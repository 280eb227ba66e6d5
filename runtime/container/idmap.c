/* SPDX-License-Identifier: Apache-2.0 */
#include "runtime/container/idmap.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/fd.h"
#include "base/str.h"

#define ID_COUNT 65536

bool idmap_is_mount_point(const char *path)
{
    struct statx stx;

    return statx(AT_FDCWD, path, AT_SYMLINK_NOFOLLOW, 0, &stx) == 0 &&
           (stx.stx_attributes & (__u64)STATX_ATTR_MOUNT_ROOT);
}

static struct err *write_map(pid_t pid, const char *file, int64_t id_base)
{
    autofree char *path = str_fmt("/proc/%d/%s", (int)pid, file);
    autofree char *map = str_fmt("0 %lld %d\n", (long long)id_base, ID_COUNT);

    return fd_write_kernel_file(path, map);
}

/* The child only holds its user namespace until the other end of the socket is closed. */
NORETURN static void hold_namespace(int fd)
{
    char c = 'r';

    _exit(unshare(CLONE_NEWUSER) == 0 && write(fd, &c, 1) == 1 && read(fd, &c, 1) == 0 ? 0 : 1);
}

struct err *idmap_namespace(int64_t id_base, int *ret_fd)
{
    autofree char *path = NULL;
    struct err *e = NULL;
    int pair[2];
    pid_t pid;
    char c;

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return err_errno(errno, "socketpair");
    pid = fork();
    if (pid == 0) {
        close(pair[0]);
        hold_namespace(pair[1]);
    }
    close(pair[1]);
    if (pid < 0)
        e = err_errno(errno, "fork");
    else if (read(pair[0], &c, 1) != 1)
        e = err_new(ERR_HOST, "the kernel makes no user namespace");
    if (!e)
        e = write_map(pid, "uid_map", id_base);
    if (!e)
        e = write_map(pid, "gid_map", id_base);
    if (!e) {
        path = str_fmt("/proc/%d/ns/user", (int)pid);
        *ret_fd = open(path, O_RDONLY | O_CLOEXEC);
        if (*ret_fd < 0)
            e = err_errno(errno, "cannot open '%s'", path);
    }
    close(pair[0]);
    if (pid > 0)
        (void)waitpid(pid, NULL, 0);
    return e;
}
