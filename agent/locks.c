/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/locks.h"

#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "base/lock.h"
#include "base/str.h"

static char *holder_line(const struct config *c)
{
    return str_fmt("noded, process %ld (state directory %s, pool %s)", (long)getpid(), c->state_dir, c->pool);
}

static struct err *take_directory(const struct config *c, const char *what, const char *dir, mode_t mode, int *ret_fd)
{
    autofree char *name = str_fmt("the %s directory '%s'", what, dir), *path = str_fmt("%s/lock", dir);
    autofree char *holder = holder_line(c);
    struct err *e = fd_mkdirs(dir, mode);

    return e ? e : lock_file(path, name, holder, ret_fd);
}

struct err *locks_take(const struct config *c, struct locks *l)
{
    autofree char *table = str_fmt("noded/table/%s", c->table), *links = str_fmt("noded/links/%s", c->veth_prefix);
    autofree char *cgroup = str_fmt("noded/cgroup/%s", c->cgroup);
    autofree char *cgroup_what = str_fmt("the cgroup '%s' (node.cgroup)", c->cgroup);
    autofree char *table_what = str_fmt("the nftables table '%s' (network.table)", c->table);
    autofree char *links_what = str_fmt("the interface prefix '%s' (network.veth_prefix)", c->veth_prefix);
    /* Others may pass through, to the kits, which containers mount with their own ids; they may not list. */
    struct err *e = take_directory(c, "state", c->state_dir, 0711, &l->state);

    if (!e && chmod(c->state_dir, 0711) < 0)
        e = err_errno(errno, "'%s'", c->state_dir);
    if (!e)
        e = take_directory(c, "run", c->run_dir, 0755, &l->run);
    if (!e)
        e = lock_name(table, table_what, &l->table);
    if (!e)
        e = lock_name(links, links_what, &l->links);
    return e ? e : lock_name(cgroup, cgroup_what, &l->cgroup);
}

struct err *locks_take_pool(const struct config *c, struct locks *l)
{
    autofree char *what = str_fmt("the pool '%s'", c->pool), *path = str_fmt("%s/lock", c->pool);
    autofree char *holder = holder_line(c);

    fd_closep(&l->pool);
    l->pool = -1;
    return lock_file(path, what, holder, &l->pool);
}

void locks_release(struct locks *l)
{
    int *fds[] = {&l->state, &l->run, &l->cgroup, &l->table, &l->links, &l->pool};

    for (size_t i = 0; i < ARRAY_LEN(fds); i++) {
        fd_closep(fds[i]);
        *fds[i] = -1;
    }
}
