/* SPDX-License-Identifier: Apache-2.0 */
/* Collected in turn: cgroup files on the read lane, link counters on the network lane, disk and ramdisk by a job. */
#include "agent/stats/stats.h"

#include <stdio.h>
#include <sys/sysinfo.h>

#include "agent/api/api.h"
#include "agent/containers/guest.h"
#include "agent/containers/limits.h"
#include "agent/containers/project.h"
#include "agent/network/ipv6.h"
#include "agent/stats/cgroup.h"
#include "agent/stats/usage.h"
#include "base/clock.h"
#include "base/str.h"

/* A percentage over a shorter time than this says little: then it is that since the start. */
enum { SAMPLE_MIN_US = 500000 };

struct stats_query {
    struct agent *agent;
    void *owner;
    void (*done)(void *owner, struct err *e, json_t *stats);
    char *container_id, *cgroup;
    int64_t init_pid, begun_us;
    struct cgroup_usage usage;
    struct nf_counters counters;
    bool has_usage, has_counters;
};

static json_t *known(int64_t n)
{
    return n < 0 ? json_null() : json_integer(n);
}

/* Of all cores: since the last time this was asked, else since the start. */
static double cpu_percent(struct container *c, int64_t cpu_ns)
{
    int64_t now_us = clock_mono_us(), since_us = now_us - c->cpu_sample_us, spent_ns = cpu_ns - c->cpu_sample_ns;

    if (c->cpu_sample_us == 0 || since_us < SAMPLE_MIN_US || spent_ns < 0) {
        since_us = (clock_wall_ms() - c->record.started_at) * 1000;
        spent_ns = cpu_ns;
    }
    if (c->cpu_sample_us == 0 || now_us - c->cpu_sample_us >= SAMPLE_MIN_US) {
        c->cpu_sample_us = now_us;
        c->cpu_sample_ns = cpu_ns;
    }
    return since_us > 0 ? (double)spent_ns / 10.0 / (double)since_us / get_nprocs() : 0.0;
}

static json_t *cpu_of(const struct cgroup_usage *u, struct container *c)
{
    if (u->cpu_ns < 0)
        return json_null();
    return json_pack("{s:I, s:I, s:f}", "usage", (json_int_t)u->cpu_ns, "allocated_time",
                     (json_int_t)get_nprocs() * 1000000000, "usage_percent", cpu_percent(c, u->cpu_ns));
}

static json_t *memory_of(const struct cgroup_usage *u)
{
    struct sysinfo info = {0};
    int64_t total = u->memory_limit_bytes, unknown_swap;

    if (u->memory_bytes < 0)
        return json_null();
    (void)sysinfo(&info);
    if (total <= 0)
        total = (int64_t)info.totalram * info.mem_unit;
    unknown_swap = info.totalswap == 0 ? 0 : -1; /* a host without swap needs no accounting of it */
    return json_pack("{s:I, s:I, s:f, s:o, s:o, s:o}", "usage", (json_int_t)u->memory_bytes, "total", (json_int_t)total,
                     "usage_percent", total > 0 ? (double)u->memory_bytes * 100.0 / (double)total : 0.0, "swap_usage",
                     known(u->swap_bytes < 0 ? unknown_swap : u->swap_bytes), "swap_usage_peak",
                     known(u->swap_peak_bytes < 0 ? unknown_swap : u->swap_peak_bytes), "usage_peak",
                     known(u->memory_peak_bytes));
}

static json_t *addresses_of(const struct agent *a, const struct container *c)
{
    const char *ipv6 = ipv6_address(a, c);
    json_t *list = json_pack("[{s:s, s:s, s:s, s:s}]", "address", c->net.ipv4, "family", "inet", "netmask", "32",
                             "scope", "global");

    if (ipv6)
        json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:s}", "address", ipv6, "family", "inet6", "netmask",
                                              "128", "scope", "global"));
    return list;
}

static json_t *network_of(const struct agent *a, const struct container *c, const struct nf_counters *n)
{
    json_t *counters =
        json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "bytes_received", (json_int_t)n->received_bytes,
                  "bytes_sent", (json_int_t)n->sent_bytes, "packets_received", (json_int_t)n->received_packets,
                  "packets_sent", (json_int_t)n->sent_packets, "errors_received", (json_int_t)n->received_errors,
                  "errors_sent", (json_int_t)n->sent_errors, "packets_dropped_inbound", (json_int_t)n->received_dropped,
                  "packets_dropped_outbound", (json_int_t)n->sent_dropped);

    return json_pack("[{s:s, s:o, s:o, s:s, s:s}]", "interface", "eth0", "addresses", addresses_of(a, c), "counters",
                     counters, "state", n->up ? "up" : "down", "type", "broadcast");
}

/* Secrets have no place of their own on this node, so nothing is in them. */
static json_t *ramdisk_of(const struct agent *a, const struct container *c, const json_t *usage)
{
    const json_t *private = json_object_get(usage_of_slot(usage, c->record.slot), "ramdisk");
    const char *project = guest_ramdisk_project(c);
    json_t *shared = project ? json_object_get(json_object_get(usage, "projects"), project) : NULL;
    json_t *areas = NULL;

    if (json_is_integer(private))
        areas = json_pack("{s:O, s:i, s:o}", "private", private, "secrets", 0, "project",
                          shared    ? json_incref(shared)
                          : project ? json_null()
                                    : json_integer(0));
    return json_pack("{s:s, s:I, s:b, s:o}", "scope", ramdisk_scope_words[c->record.ramdisk_scope],
                     "shared_pool_maximum", (json_int_t)a->config->ramdisk_size, "capacity_reserved", 0, "usage",
                     areas ? areas : json_null());
}

static json_t *started_at(const struct container *c)
{
    char ms[STR_TIME_SIZE];
    autofree char *text = NULL;

    str_time(c->record.started_at, ms);
    ms[strcspn(ms, "Z")] = '\0';
    text = str_fmt("%s000000Z", ms);
    return json_string(text);
}

static json_t *report(const struct stats_query *q, struct container *c, const json_t *usage)
{
    autofree char *time = str_fmt("%lldms", (long long)((clock_mono_us() - q->begun_us) / 1000));
    const struct project *project = project_find(q->agent, c->record.project_id);
    const json_t *use = usage_of_slot(usage, c->record.slot);
    bool up = container_is_up(c), paused = c->record.status == CONTAINER_PAUSED;
    json_t *j = json_pack(
        "{s:s, s:s, s:s, s:i, s:I, s:o, s:o, s:o}", "id", c->record.id, "project_id", c->record.project_id, "status",
        !up      ? "Stopped"
        : paused ? "Frozen"
                 : "Running",
        "status_code",
        !up      ? 102
        : paused ? 110
                 : 103,
        "processes", (json_int_t)(up && q->has_usage ? MAX(q->usage.processes, 0) : 0), "started_at",
        up ? started_at(c) : json_null(), "cpu", up && q->has_usage ? cpu_of(&q->usage, c) : json_null(), "memory",
        up && q->has_usage ? memory_of(&q->usage) : json_null());

    json_object_set_new(j, "disk",
                        json_pack("{s:o}", "root",
                                  api_without_nulls(json_pack("{s:I, s:O?}", "total", (json_int_t)limits_disk(c),
                                                              "usage", json_object_get(use, "disk")))));
    json_object_set_new(j, "network", up && q->has_counters ? network_of(q->agent, c, &q->counters) : json_array());
    if (c->record.ramdisk)
        json_object_set_new(j, "ramdisk", ramdisk_of(q->agent, c, usage));
    json_object_set_new(j, "processing_time", json_string(time));
    json_object_set_new(j, "project_name", project ? json_string(project->alias) : json_null());
    json_object_set_new(j, "server_name", json_string(q->agent->node_name));
    return j;
}

static void on_disk(void *owner, const json_t *usage)
{
    struct stats_query *q = owner;
    struct container *c = agent_find(q->agent, q->container_id);

    if (c)
        q->done(q->owner, NULL, report(q, c, usage));
    else
        q->done(q->owner, err_reason(err_new(ERR_NOT_FOUND, "Container not found"), "CONTAINER_NOT_FOUND"), NULL);
    free(q->container_id);
    free(q->cgroup);
    free(q);
}

static void on_counters(void *owner, struct err *e, const struct nf_counters *counters)
{
    struct stats_query *q = owner;

    q->has_counters = !e;
    q->counters = *counters;
    err_free(e);
    usage_get(q->agent->usage, q, on_disk);
}

static struct err *read_usage(void *arg)
{
    struct stats_query *q = arg;

    return cgroup_read(q->init_pid, q->cgroup, &q->usage);
}

static void on_usage(void *arg, struct err *e)
{
    struct stats_query *q = arg;
    const struct container *c = agent_find(q->agent, q->container_id);

    q->has_usage = !e;
    err_free(e);
    if (c && q->has_usage)
        net_counters(q->agent, c->record.slot, q, on_counters);
    else
        usage_get(q->agent->usage, q, on_disk);
}

void stats_read(struct agent *a, const struct container *c, void *owner,
                void (*done)(void *owner, struct err *e, json_t *stats))
{
    struct stats_query *q = mem_new(struct stats_query);

    *q = (struct stats_query){.agent = a,
                              .owner = owner,
                              .done = done,
                              .container_id = str_dup(c->record.id),
                              .cgroup = str_fmt("%s/c%lld", a->config->cgroup, (long long)c->record.slot),
                              .init_pid = c->init_pid,
                              .begun_us = clock_mono_us()};
    lane_submit(a->read_lane, read_usage, q, on_usage);
}
