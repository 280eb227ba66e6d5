/* SPDX-License-Identifier: Apache-2.0 */
#include "provisioning/live.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>

#include "base/str.h"
#include "provisioning/confined_internal.h"

#define FDINFO_MAX 4096

/* The kernel's number of the mount that an fd is in; -1. Unlike statx and fstatfs this asks no file system. */
static int64_t mount_of(int fd)
{
    autofree char *path = str_fmt("/proc/self/fdinfo/%d", fd), *text = NULL;
    struct err *e = fd_read_file(path, FDINFO_MAX, &text, NULL);
    const char *line = e ? NULL : strstr(text, "mnt_id:");
    long long id = -1;

    err_ignore(e);
    return line && sscanf(line, "mnt_id: %lld", &id) == 1 ? id : -1;
}

/* The kind of file system of a line of mountinfo, "ID PARENT DEVICE ROOT POINT OPTIONS [FIELD...] - TYPE SOURCE ...";
 * in a name blanks are written in octal. A kind that FUSE is given by its owner stands behind "fuse.". */
static bool answers_by_itself(const char *line)
{
    const char *type = strstr(line, " - ");

    return type && (strncmp(type, " - btrfs ", 9) == 0 || strncmp(type, " - tmpfs ", 9) == 0);
}

static bool is_calm(pid_t init, int64_t mount)
{
    autofree char *path = str_fmt("/proc/%d/mountinfo", (int)init), *line = NULL;
    FILE *list = fopen(path, "re");
    bool found = false, calm = false;
    size_t size = 0;

    while (list && !found && getline(&line, &size, list) > 0) {
        long long id;

        found = sscanf(line, "%lld ", &id) == 1 && id == mount;
        calm = found && answers_by_itself(line);
    }
    if (list)
        (void)fclose(list);
    return calm;
}

/* *last: the mount that was looked at before. */
static bool may_look(const struct live *l, int fd, int64_t *last)
{
    int64_t mount = mount_of(fd);
    bool same = mount >= 0 && mount == *last;

    *last = mount;
    return same || (mount >= 0 && is_calm(l->init, mount));
}

struct err *live_open(pid_t init, struct live *ret)
{
    autofree char *path = str_fmt("/proc/%d/root/.", (int)init);
    int64_t last = -1;

    *ret = (struct live){.init = init, .root = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC)};
    if (ret->root < 0)
        return err_recode(err_errno(errno, "'%s'", path), errno == ENOENT ? ERR_WRONG_STATE : ERR_HOST);
    if (may_look(ret, ret->root, &last))
        return NULL;
    live_done(ret);
    ret->root = -1;
    return err_new(ERR_HOST, "the container has taken another file system as its root");
}

/* What `path` names, open with O_PATH; -1. A lookup asks the file system of `at` alone: a mount that is met is entered
 * by the kernel without a question to what is mounted. */
static int follow(const struct live *l, const char *path)
{
    autofd int at = l->root >= 0 ? openat(l->root, ".", O_PATH | O_DIRECTORY | O_CLOEXEC) : -1;
    int64_t last = at >= 0 ? mount_of(at) : -1;

    while (at >= 0 && *(path += strspn(path, "/"))) {
        size_t len = strcspn(path, "/");
        char name[256];
        int next;

        if (len >= sizeof(name))
            return -1;
        snprintf(name, sizeof(name), "%.*s", (int)len, path);
        path += len;
        next = confined_open_how(at, name, O_PATH | O_NOFOLLOW, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS);
        fd_closep(&at);
        at = next;
        if (at >= 0 && !may_look(l, at, &last)) {
            fd_closep(&at);
            at = -1;
        }
    }
    return fd_steal(&at);
}

struct err *live_read(const struct live *l, const char *path, size_t max, char **ret_text)
{
    autofd int place = follow(l, path);

    if (place < 0)
        return err_new(ERR_NOT_FOUND, "'%s' is not there, or not ours to look at", path);
    return confined_read_place(place, path, max, ret_text, NULL);
}

int live_open_mounted(const struct live *l, const char *dir, const char *name)
{
    autofd int at = follow(l, dir);

    return at < 0 ? -1 : confined_open_how(at, name, O_PATH | O_DIRECTORY, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS);
}

bool live_exists(const struct live *l, const char *path)
{
    autofd int place = follow(l, path);

    return place >= 0;
}
