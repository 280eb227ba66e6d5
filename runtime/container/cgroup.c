/* SPDX-License-Identifier: Apache-2.0 */
#include "runtime/container/cgroup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/cgroup.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/str.h"

#define REMOVE_MS 10000 /* a killed process may still wait for a slow disk */
#define PAUSE_MS 2
#define THAW_MAX 100000 /* entries below one container; its root may make more, which then go with the next round */

#define autoplaces __attribute__((cleanup(cgroup_places_done))) struct cgroup_places

/* The directories that exist. */
static void find_places(const char *cgroup, const char *name, struct cgroup_places *ret)
{
    size_t n = 0;

    cgroup_places_find(cgroup, name, ret);
    for (size_t i = 0; i < ret->count; i++) {
        if (access(ret->path[i], F_OK) < 0) {
            free(ret->path[i]);
            continue;
        }
        ret->path[n] = ret->path[i];
        ret->v2[n] = ret->v2[i];
        n++;
    }
    ret->count = n;
}

static struct err *read_at(const char *dir, const char *file, char **ret)
{
    autofree char *path = str_fmt("%s/%s", dir, file);

    return fd_read_file(path, 1 << 20, ret, NULL);
}

static struct err *write_at(const char *dir, const char *file, const char *text)
{
    autofree char *path = str_fmt("%s/%s", dir, file);

    return fd_write_kernel_file(path, text);
}

bool cgroup_exists(const char *cgroup, const char *name)
{
    autoplaces p;

    find_places(cgroup, name, &p);
    return p.count > 0;
}

pid_t *cgroup_pids(const char *cgroup, const char *name)
{
    pid_t *pids = mem_new(pid_t);
    size_t count = 0;
    autoplaces p;

    find_places(cgroup, name, &p);
    for (size_t i = 0; count == 0 && i < p.count; i++) {
        autofree char *text = NULL;
        char *line, *rest;

        err_ignore(read_at(p.path[i], "cgroup.procs", &text));
        rest = text;
        while ((line = strsep(&rest, "\n"))) {
            pids[count] = (pid_t)strtol(line, NULL, 10);
            if (pids[count] > 0)
                pids = mem_grow(pids, ++count + 1, sizeof(*pids));
        }
    }
    pids[count] = 0;
    return pids;
}

void cgroup_leave(const char *cgroup, const char *name)
{
    autoplaces p;

    find_places(cgroup, name, &p);
    for (size_t i = 0; i < p.count; i++) {
        /* In version 2 only a leaf may have processes; in version 1 a new cpuset may not. liblxc names the leaf so. */
        autofree char *to = str_fmt("%s/../%s", p.path[i], p.v2[i] ? "lxc.pivot" : ".");

        (void)mkdir(to, 0755);
        err_ignore(write_at(to, "cgroup.procs", "0"));
    }
}

/* Changes directory as it goes, so the depth has no limit; a worker does one job and has no use for its own. */
static void thaw_below(const char *path)
{
    char *roots[] = {(char *)(uintptr_t)path, NULL};
    FTS *fts = fts_open(roots, FTS_PHYSICAL | FTS_NOSTAT, NULL);
    const FTSENT *entry;

    for (int left = THAW_MAX; fts && left > 0 && (entry = fts_read(fts)); left--)
        if (entry->fts_info == FTS_D)
            err_ignore(write_at(entry->fts_accpath, "freezer.state", "THAWED"));
    if (fts)
        fts_close(fts);
}

void cgroup_thaw_inside(const char *cgroup, const char *name)
{
    autoplaces p;

    find_places(cgroup, name, &p);
    for (size_t i = 0; i < p.count; i++) {
        autofree char *state = str_fmt("%s/freezer.state", p.path[i]);

        if (!p.v2[i] && access(state, F_OK) == 0)
            thaw_below(p.path[i]);
    }
}

void cgroup_kill(const char *cgroup, const char *name)
{
    autofree pid_t *pids = cgroup_pids(cgroup, name);
    autoplaces p;

    find_places(cgroup, name, &p);
    for (size_t i = 0; i < p.count; i++)
        if (p.v2[i])
            err_ignore(write_at(p.path[i], "cgroup.kill", "1"));
    for (size_t i = 0; pids[i]; i++)
        (void)kill(pids[i], SIGKILL);
}

static struct err *remove_one(int parent, const char *name)
{
    int64_t end = clock_mono_ms() + REMOVE_MS;

    while (unlinkat(parent, name, AT_REMOVEDIR) < 0) {
        if (errno == ENOENT)
            return NULL;
        if (errno != EBUSY || clock_mono_ms() > end)
            return err_errno(errno, "cannot remove the cgroup '%s'", name);
        (void)poll(NULL, 0, PAUSE_MS);
    }
    return NULL;
}

/* The name of some directory in it; NULL when there is none. The caller frees it. */
static char *find_below(int dir)
{
    int copy = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *list = copy >= 0 ? fdopendir(copy) : NULL;
    char *name = NULL;
    struct dirent *d;

    while (list && !name && (d = readdir(list)))
        if (d->d_type == DT_DIR && strcmp(d->d_name, ".") != 0 && strcmp(d->d_name, "..") != 0)
            name = str_dup(d->d_name);
    if (list)
        closedir(list);
    else if (copy >= 0)
        close(copy);
    return name;
}

/* The container chose how deep it is, so neither the stack nor the number of fds grows with that. */
static struct err *remove_tree(const char *path)
{
    autofd int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct err *e = NULL;
    char **names = NULL;
    size_t depth = 0;

    while (!e && dir >= 0) {
        char *name = find_below(dir);
        int next = openat(dir, name ? name : "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);

        if (name) {
            names = mem_grow(names, depth + 1, sizeof(*names));
            names[depth++] = name;
        } else if (depth == 0) {
            (void)close(next);
            break;
        } else {
            e = remove_one(next, names[--depth]);
            free(names[depth]);
        }
        close(dir);
        dir = next;
    }
    while (depth)
        free(names[--depth]);
    free(names);
    return e ? e : remove_one(AT_FDCWD, path);
}

struct err *cgroup_remove(const char *cgroup, const char *name)
{
    struct err *e = NULL;
    autoplaces p;

    find_places(cgroup, name, &p);
    for (size_t i = 0; i < p.count; i++)
        e = err_first(e, remove_tree(p.path[i]));
    return e;
}

/* The hierarchy with a freezer, and its file. Version 1 first: on a hybrid host liblxc's processes are in both. */
static const char *freezer(const struct cgroup_places *p, size_t *ret_index)
{
    for (int v2 = 0; v2 < 2; v2++) {
        const char *file = v2 ? "cgroup.freeze" : "freezer.state";

        for (size_t i = 0; i < p->count; i++) {
            autofree char *path = str_fmt("%s/%s", p->path[i], file);

            if (p->v2[i] == (v2 == 1) && access(path, F_OK) == 0) {
                *ret_index = i;
                return file;
            }
        }
    }
    return NULL;
}

static bool has_state(const struct cgroup_places *p, size_t i, bool frozen)
{
    autofree char *text = NULL;

    err_ignore(read_at(p->path[i], p->v2[i] ? "cgroup.events" : "freezer.state", &text));
    if (!text)
        return false;
    if (p->v2[i])
        return strstr(text, frozen ? "frozen 1" : "frozen 0") != NULL;
    return strcmp(text, frozen ? "FROZEN\n" : "THAWED\n") == 0;
}

struct err *cgroup_freeze(const char *cgroup, const char *name, bool frozen, int64_t timeout_ms)
{
    int64_t end = clock_mono_ms() + timeout_ms;
    struct err *e = NULL;
    const char *file;
    autoplaces p;
    size_t i;

    find_places(cgroup, name, &p);
    file = freezer(&p, &i);
    if (!file)
        return err_new(ERR_HOST, "there is no freezer for the cgroup '%s/%s'", cgroup, name);
    do {
        /* Version 1 gives up by itself when a process forks just then; asking again helps. */
        if (p.v2[i])
            e = write_at(p.path[i], file, frozen ? "1" : "0");
        else
            e = write_at(p.path[i], file, frozen ? "FROZEN" : "THAWED");
        if (e || has_state(&p, i, frozen))
            return e;
        (void)poll(NULL, 0, PAUSE_MS);
    } while (clock_mono_ms() < end);
    return err_new(ERR_TIMEOUT, "the processes did not %s in time", frozen ? "freeze" : "thaw");
}

bool cgroup_is_frozen(const char *cgroup, const char *name)
{
    autoplaces p;
    size_t i;

    find_places(cgroup, name, &p);
    return freezer(&p, &i) && has_state(&p, i, true);
}
