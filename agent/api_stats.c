/* SPDX-License-Identifier: Apache-2.0 */
/* GET /containers/{id}/stats: cgroup files and link counters, read on the network lane's thread. */
#include <stdio.h>
#include <sys/sysinfo.h>

#include "agent/api.h"
#include "agent/cgroup.h"
#include "base/clock.h"
#include "base/str.h"

struct stats_query {
    struct agent *agent;
    struct http_request *req;
    char *container_id, *cgroup;
    int64_t init_pid;
    struct cgroup_usage usage;
    int64_t begun_us;
};

static json_t *known(int64_t n)
{
    return n < 0 ? json_null() : json_integer(n);
}

static json_t *cpu_of(const struct cgroup_usage *u, const struct container *c)
{
    double up_ns = (double)(clock_wall_ms() - c->record.started_at) * 1e6;

    return json_pack("{s:o, s:I, s:f}", "usage", known(u->cpu_ns), "allocated_time",
                     (json_int_t)get_nprocs() * 1000000000, "usage_percent",
                     up_ns > 0 && u->cpu_ns > 0 ? (double)u->cpu_ns * 100.0 / up_ns / get_nprocs() : 0.0);
}

static json_t *memory_of(const struct cgroup_usage *u)
{
    struct sysinfo info;
    int64_t total = u->memory_limit_bytes;

    if (total <= 0 && sysinfo(&info) == 0)
        total = (int64_t)info.totalram * info.mem_unit;
    return json_pack("{s:o, s:I, s:f, s:o, s:n, s:o}", "usage", known(u->memory_bytes), "total", (json_int_t)total,
                     "usage_percent", total > 0 ? (double)u->memory_bytes * 100.0 / (double)total : 0.0, "swap_usage",
                     known(u->swap_bytes), "swap_usage_peak", "usage_peak", known(u->memory_peak_bytes));
}

static json_t *network_of(const struct container *c, const struct nf_counters *n)
{
    json_t *counters =
        json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "bytes_received", (json_int_t)n->received_bytes,
                  "bytes_sent", (json_int_t)n->sent_bytes, "packets_received", (json_int_t)n->received_packets,
                  "packets_sent", (json_int_t)n->sent_packets, "errors_received", (json_int_t)n->received_errors,
                  "errors_sent", (json_int_t)n->sent_errors, "packets_dropped_inbound", (json_int_t)n->received_dropped,
                  "packets_dropped_outbound", (json_int_t)n->sent_dropped);

    return json_pack("[{s:s, s:[{s:s, s:s, s:s, s:s}, {s:s, s:s, s:s, s:s}], s:o, s:s, s:s}]", "interface", "eth0",
                     "addresses", "address", c->net.ipv4, "family", "inet", "netmask", "32", "scope", "global",
                     "address", c->net.ipv6, "family", "inet6", "netmask", "128", "scope", "global", "counters",
                     counters, "state", "up", "type", "broadcast");
}

static void answer(struct stats_query *q, const struct container *c, const struct nf_counters *counters)
{
    static const struct {
        const char *word;
        int code;
    } states[CONTAINER_STATUS_MAX] = {[CONTAINER_RUNNING] = {"Running", 103}, [CONTAINER_PAUSED] = {"Frozen", 110}};
    bool up = container_is_up(c) && counters;
    char time[32];
    json_t *j;

    snprintf(time, sizeof(time), "%lldms", (long long)((clock_mono_us() - q->begun_us) / 1000));
    j = json_pack(
        "{s:s, s:s, s:s, s:i, s:I, s:o, s:o, s:o, s:{s:{s:I, s:n}}, s:o, s:s, s:n, s:s, s:n}", "id", c->record.id,
        "project_id", c->record.project_id, "status", up ? states[c->record.status].word : "Stopped", "status_code",
        up ? states[c->record.status].code : 102, "processes", (json_int_t)(up ? MAX(q->usage.processes, 0) : 0),
        "started_at", up ? api_time(c->record.started_at) : json_null(), "cpu", up ? cpu_of(&q->usage, c) : json_null(),
        "memory", up ? memory_of(&q->usage) : json_null(), "disk", "root", "total", (json_int_t)0, "usage", "network",
        up ? network_of(c, counters) : json_array(), "processing_time", time, "project_name", "server_name",
        q->agent->node_name, "subserver_name");
    if (c->record.ramdisk)
        json_object_set_new(j, "ramdisk",
                            json_pack("{s:s, s:I, s:b, s:n}", "scope", "container", "shared_pool_maximum",
                                      (json_int_t)q->agent->config->ramdisk_size, "capacity_reserved", 0, "usage"));
    reply_ok(q->req, 200, "Container stats retrieved successfully", j);
}

static void end(struct stats_query *q, const struct nf_counters *counters)
{
    const struct container *c = agent_find(q->agent, q->container_id);

    if (c)
        answer(q, c, counters);
    else
        reply_err(q->req, err_reason(err_new(ERR_NOT_FOUND, "Container not found"), "CONTAINER_NOT_FOUND"));
    free(q->container_id);
    free(q->cgroup);
    free(q);
}

static void on_counters(void *owner, struct err *e, const struct nf_counters *counters)
{
    struct stats_query *q = owner;

    end(q, e ? NULL : counters);
    err_free(e);
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

    if (e || !c)
        end(q, NULL);
    else
        net_counters(q->agent, c->record.slot, q, on_counters);
    err_free(e);
}

void container_stats(struct api_call *call)
{
    struct stats_query *q = mem_new(struct stats_query);

    *q = (struct stats_query){.agent = call->agent, .req = call->req, .begun_us = clock_mono_us()};
    q->container_id = str_dup(call->container->record.id);
    q->init_pid = call->container->init_pid;
    q->cgroup = str_fmt("%s/c%lld", call->agent->config->cgroup, (long long)call->container->record.slot);
    lane_submit(call->agent->net_lane, read_usage, q, on_usage);
}
