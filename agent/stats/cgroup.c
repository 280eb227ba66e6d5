/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/stats/cgroup.h"

#include <unistd.h>

#include "base/fd.h"
#include "base/str.h"

#define ROOT "/sys/fs/cgroup"

/* First number in a kernel file; -1 when there is none. "max" counts as 0. */
static int64_t number(const char *controller, const char *path, const char *file)
{
    autofree char *name = str_fmt(ROOT "%s/%s/%s", controller, path, file);
    autofree char *text = NULL;
    struct err *e = fd_read_file(name, 4096, &text, NULL);
    int64_t n = -1;

    if (e) {
        err_free(e);
        return -1;
    }
    text[strcspn(text, "\n ")] = '\0';
    if (strcmp(text, "max") == 0)
        return 0;
    return str_to_i64(text, &n) ? n : -1;
}

/* The value of a key in a flat keyed file such as cpu.stat. */
static int64_t keyed(const char *path, const char *file, const char *key)
{
    autofree char *name = str_fmt(ROOT "/%s/%s", path, file);
    autofree char *text = NULL;
    struct err *e = fd_read_file(name, 65536, &text, NULL);
    char *save = NULL;

    if (e) {
        err_free(e);
        return -1;
    }
    for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
        if (strncmp(line, key, strlen(key)) == 0 && line[strlen(key)] == ' ')
            return strtoll(line + strlen(key), NULL, 10);
    return -1;
}

static void read_v2(const char *path, struct cgroup_usage *u)
{
    int64_t usec = keyed(path, "cpu.stat", "usage_usec");

    u->cpu_ns = usec < 0 ? -1 : usec * 1000;
    u->memory_bytes = number("", path, "memory.current");
    u->memory_peak_bytes = number("", path, "memory.peak");
    u->memory_limit_bytes = number("", path, "memory.max");
    u->swap_bytes = number("", path, "memory.swap.current");
    u->swap_peak_bytes = number("", path, "memory.swap.peak"); /* Linux 6.5 */
    u->processes = number("", path, "pids.current");
}

static void read_v1(const char *controller, const char *path, struct cgroup_usage *u)
{
    if (str_eq(controller, "cpuacct")) {
        u->cpu_ns = number("/cpuacct", path, "cpuacct.usage");
    } else if (str_eq(controller, "pids")) {
        u->processes = number("/pids", path, "pids.current");
    } else if (str_eq(controller, "memory")) {
        int64_t with_swap = number("/memory", path, "memory.memsw.usage_in_bytes"); /* absent without swapaccount=1 */

        u->memory_bytes = number("/memory", path, "memory.usage_in_bytes");
        u->memory_peak_bytes = number("/memory", path, "memory.max_usage_in_bytes");
        if (with_swap >= 0)
            u->swap_bytes = MAX(with_swap - u->memory_bytes, 0);
        u->memory_limit_bytes = number("/memory", path, "memory.limit_in_bytes");
        if (u->memory_limit_bytes > INT64_MAX / 2)
            u->memory_limit_bytes = 0; /* v1 writes "no limit" as a number near 2^63 */
    }
}

/* One line of /proc/PID/cgroup, "number:controllers:path". */
static bool read_line(char *line, const char *suffix, struct cgroup_usage *u)
{
    char *controllers = strchr(line, ':'), *path = controllers ? strchr(controllers + 1, ':') : NULL;
    char *end, *save = NULL;

    if (!path)
        return false;
    *path++ = '\0';
    controllers++;
    end = strstr(path, suffix);
    if (!end || end == path || end[-1] != '/' || !strchr("/", end[strlen(suffix)]))
        return false;
    end[strlen(suffix)] = '\0';
    if (!*controllers) {
        if (access(ROOT "/cgroup.controllers", F_OK) == 0)
            read_v2(path + 1, u);
        return true;
    }
    for (char *word = strtok_r(controllers, ",", &save); word; word = strtok_r(NULL, ",", &save))
        read_v1(word, path + 1, u);
    return true;
}

struct err *cgroup_read(int64_t init_pid, const char *suffix, struct cgroup_usage *ret)
{
    autofree char *name = str_fmt("/proc/%lld/cgroup", (long long)init_pid);
    autofree char *text = NULL;
    struct err *e = fd_read_file(name, 65536, &text, NULL);
    char *save = NULL;
    bool found = false;

    if (e)
        return err_recode(e, ERR_NOT_FOUND);
    *ret = (struct cgroup_usage){.cpu_ns = -1,
                                 .memory_bytes = -1,
                                 .memory_peak_bytes = -1,
                                 .swap_bytes = -1,
                                 .swap_peak_bytes = -1,
                                 .processes = -1};
    for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
        found = read_line(line, suffix, ret) || found;
    return found ? NULL : err_new(ERR_NOT_FOUND, "process %lld is in no cgroup '%s'", (long long)init_pid, suffix);
}
