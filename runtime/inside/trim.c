/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a boot has read once and nobody has used since: the inactive part of the page cache that the container is
 * charged with. Version 2 of cgroups reclaims on demand; in version 1 a limit that is set for a moment does the same.
 * What is in use stays, so that the first who needs it does not wait for the disk.
 */
#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "base/cgroup.h"
#include "base/fd.h"
#include "base/str.h"
#include "runtime/job.h"

#define autoplaces __attribute__((cleanup(cgroup_places_done))) struct cgroup_places

static bool read_number(const char *dir, const char *file, int64_t *ret)
{
    autofree char *path = str_fmt("%s/%s", dir, file), *text = NULL;
    struct err *e = fd_read_file(path, 64, &text, NULL);
    bool ok = !e;

    err_ignore(e);
    if (ok)
        text[strcspn(text, "\n")] = '\0';
    return ok && str_to_i64(text, ret);
}

static int64_t inactive_of(const char *dir, const char *word)
{
    autofree char *path = str_fmt("%s/memory.stat", dir), *text = NULL;
    struct err *e = fd_read_file(path, 65536, &text, NULL);
    const char *line = e ? NULL : strstr(text, word);
    long long n = 0;

    err_ignore(e);
    return line && sscanf(line + strlen(word), "%lld", &n) == 1 ? n : 0;
}

static void write_number(const char *dir, const char *file, int64_t n)
{
    autofree char *path = str_fmt("%s/%s", dir, file), *text = str_fmt("%lld", (long long)n);

    err_ignore(fd_write_kernel_file(path, text)); /* as much as there was; the rest stays */
}

static void trim(const char *dir, bool v2, int64_t usage)
{
    int64_t cold = inactive_of(dir, v2 ? "inactive_file " : "total_inactive_file "), limit;

    if (cold <= 0)
        return;
    if (v2) {
        write_number(dir, "memory.reclaim", cold);
    } else if (read_number(dir, "memory.limit_in_bytes", &limit)) {
        write_number(dir, "memory.limit_in_bytes", usage - cold);
        write_number(dir, "memory.limit_in_bytes", limit);
    }
}

struct err *job_do_trim(const struct job *job, UNUSED void *args, json_t **ret)
{
    json_t *before = json_null(), *after = json_null();
    autoplaces p;

    cgroup_places_find(job->target.cgroup, job->name, &p);
    for (size_t i = 0; i < p.count; i++) {
        const char *file = p.v2[i] ? "memory.current" : "memory.usage_in_bytes";
        int64_t usage;

        if (!read_number(p.path[i], file, &usage))
            continue;
        before = json_integer(usage);
        trim(p.path[i], p.v2[i], usage);
        if (read_number(p.path[i], file, &usage))
            after = json_integer(usage);
        break;
    }
    *ret = json_pack("{s:o, s:o}", "before", before, "after", after);
    return NULL;
}
