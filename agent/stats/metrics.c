/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/stats/metrics.h"

#include <stdio.h>
#include <sys/sysinfo.h>

#include "agent/api/api.h"
#include "agent/storage/space.h"
#include "base/clock.h"
#include "base/fd.h"

enum { FRESH_MS = 1000 };

struct cpu_time {
    unsigned long long busy, total; /* in ticks, of all cores since the boot */
};

struct metrics {
    struct agent *agent;
    json_t *figures;
    int64_t read_ms;
    struct cpu_time cpu; /* when it was read */
};

/* First line of /proc/stat: user nice system idle iowait irq softirq steal; proc_stat(5). */
static bool read_cpu(struct cpu_time *ret)
{
    autofree char *text = NULL;
    unsigned long long t[8] = {0};
    struct err *e = fd_read_file("/proc/stat", 1 << 20, &text, NULL);

    if (e || sscanf(text, "cpu %llu %llu %llu %llu %llu %llu %llu %llu", &t[0], &t[1], &t[2], &t[3], &t[4], &t[5],
                    &t[6], &t[7]) != 8) {
        err_free(e);
        return false;
    }
    *ret = (struct cpu_time){0};
    for (int i = 0; i < 8; i++) {
        ret->total += t[i];
        ret->busy += i == 3 || i == 4 ? 0 : t[i];
    }
    return true;
}

/* kB of a line of /proc/meminfo, as bytes; -1 when it is missing. */
static int64_t meminfo(const char *text, const char *name)
{
    const char *line = strstr(text, name);
    long long kb;

    return line && sscanf(line + strlen(name), " %lld", &kb) == 1 ? kb * 1024 : -1;
}

static json_t *amount(int64_t total, int64_t free_bytes)
{
    return json_pack("{s:I, s:I, s:I}", "total_bytes", (json_int_t)total, "used_bytes",
                     (json_int_t)(total - free_bytes), "free_bytes", (json_int_t)free_bytes);
}

static json_t *read_figures(const struct metrics *m, const struct cpu_time *now)
{
    autofree char *uptime = NULL, *load = NULL, *memory = NULL;
    unsigned long long total = now->total - m->cpu.total;
    double up, l[3];
    struct statvfs fs;
    struct err *e = fd_read_file("/proc/uptime", 256, &uptime, NULL);

    if (!e)
        e = fd_read_file("/proc/loadavg", 256, &load, NULL);
    if (!e)
        e = fd_read_file("/proc/meminfo", 65536, &memory, NULL);
    if (e || sscanf(uptime, "%lf", &up) != 1 || sscanf(load, "%lf %lf %lf", &l[0], &l[1], &l[2]) != 3 ||
        !space_pool(m->agent, &fs)) {
        err_free(e);
        return NULL;
    }
    return json_pack("{s:I, s:i, s:{s:f, s:f, s:f}, s:{s:f}, s:o, s:o, s:o}", "uptime_s", (json_int_t)up, "cores",
                     get_nprocs(), "load", "1", l[0], "5", l[1], "15", l[2], "cpu", "busy_pct",
                     total > 0 ? (double)(now->busy - m->cpu.busy) * 100.0 / (double)total : 0.0, "mem",
                     amount(meminfo(memory, "MemTotal:"), meminfo(memory, "MemAvailable:")), "swap",
                     amount(meminfo(memory, "SwapTotal:"), meminfo(memory, "SwapFree:")), "storage",
                     amount((int64_t)(fs.f_blocks * fs.f_frsize), (int64_t)(fs.f_bavail * fs.f_frsize)));
}

struct metrics *metrics_new(struct agent *a)
{
    struct metrics *m = mem_new(struct metrics);

    m->agent = a;
    (void)read_cpu(&m->cpu);
    return m;
}

void metrics_free(struct metrics *m)
{
    if (!m)
        return;
    json_decref(m->figures);
    free(m);
}

json_t *metrics_get(struct metrics *m)
{
    int64_t now_ms = clock_mono_ms();
    bool stale = false;
    json_t *copy;

    if (!m->figures || now_ms - m->read_ms >= FRESH_MS) {
        struct cpu_time now = {0};
        json_t *fresh = read_cpu(&now) ? read_figures(m, &now) : NULL;

        stale = !fresh;
        if (fresh) {
            json_decref(m->figures);
            m->figures = fresh;
            m->read_ms = now_ms;
            m->cpu = now;
        }
    }
    if (!m->figures)
        return NULL;
    copy = json_copy(m->figures);
    json_object_set_new(copy, "scope", json_string("server"));
    json_object_set_new(copy, "ts", api_time(clock_wall_ms() - (now_ms - m->read_ms)));
    json_object_set_new(copy, "cache_age_ms", json_integer(now_ms - m->read_ms));
    json_object_set_new(copy, "stale", json_boolean(stale));
    return copy;
}
