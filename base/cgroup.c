/* SPDX-License-Identifier: Apache-2.0 */
#include "base/cgroup.h"

#include <linux/magic.h>
#include <sys/statfs.h>

#include "base/fd.h"
#include "base/str.h"

#define CGROUP_ROOT "/sys/fs/cgroup"

void cgroup_places_done(struct cgroup_places *p)
{
    for (size_t i = 0; i < p->count; i++)
        free(p->path[i]);
    p->count = 0;
}

static bool is_fs(const char *path, long magic)
{
    struct statfs sfs;

    return statfs(path, &sfs) == 0 && sfs.f_type == magic;
}

/* A line of /proc/1/cgroup is "number:controllers:path"; liblxc puts containers below that path, less init.scope. */
static void add_place(struct cgroup_places *p, char *line, const char *cgroup, const char *name)
{
    static const char scope[] = "/init.scope";
    char *controllers = strchr(line, ':'), *base = controllers ? strchr(controllers + 1, ':') : NULL;
    autofree char *mount = NULL, *path = NULL;
    size_t len;
    bool v2;

    if (!base || p->count == CGROUP_HIERARCHIES_MAX)
        return;
    *base++ = '\0';
    controllers++;
    len = strlen(base);
    if (len >= strlen(scope) && strcmp(base + len - strlen(scope), scope) == 0)
        base[len - strlen(scope)] = '\0';
    if (strncmp(controllers, "name=", 5) == 0)
        controllers += 5;
    v2 = *controllers == '\0';
    if (!v2)
        mount = str_fmt(CGROUP_ROOT "/%s", controllers);
    else
        mount = str_dup(is_fs(CGROUP_ROOT, CGROUP2_SUPER_MAGIC) ? CGROUP_ROOT : CGROUP_ROOT "/unified");
    if (!is_fs(mount, v2 ? CGROUP2_SUPER_MAGIC : CGROUP_SUPER_MAGIC))
        return;
    path = str_fmt("%s%s%s%s/%s", mount, base, base[0] && base[strlen(base) - 1] == '/' ? "" : "/", cgroup, name);
    p->v2[p->count] = v2;
    p->tracked[p->count] = v2 || strcmp(controllers, "systemd") == 0;
    p->path[p->count++] = steal(&path);
}

void cgroup_places_find(const char *cgroup, const char *name, struct cgroup_places *ret)
{
    autofree char *text = NULL;
    char *line, *rest;

    *ret = (struct cgroup_places){0};
    err_ignore(fd_read_file("/proc/1/cgroup", 65536, &text, NULL));
    rest = text;
    while ((line = strsep(&rest, "\n")))
        add_place(ret, line, cgroup, name);
}
