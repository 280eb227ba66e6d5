/* SPDX-License-Identifier: Apache-2.0 */
/* The node about itself, the routes a proxy needs, and the health check. */
#include <sys/statvfs.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>

#include "agent/api.h"
#include "agent/kits.h"
#include "base/clock.h"

static json_t *counts(const struct agent *a)
{
    size_t n[CONTAINER_STATUS_MAX] = {0};
    json_t *j = json_object();

    for (size_t i = 0; i < a->container_count; i++)
        n[a->containers[i]->record.status]++;
    for (int s = 0; s < CONTAINER_STATUS_MAX; s++)
        if (n[s])
            json_object_set_new(j, container_status_words[s], json_integer((json_int_t)n[s]));
    return j;
}

void node_get(struct api_call *call)
{
    const struct agent *a = call->agent;
    struct utsname host;
    struct sysinfo info = {0};
    struct statvfs pool = {0};
    json_t *kits = kits_of_suite(a);

    (void)statvfs(a->config->pool, &pool); /* answered from memory by btrfs */
    uname(&host);
    sysinfo(&info);
    reply_ok(call->req, 200, "Node retrieved successfully",
             json_pack("{s:s, s:s, s:{s:s, s:s, s:s}, s:{s:I, s:I, s:o}, s:{s:i, s:I, s:I, s:I}, s:O, s:o, s:o}", "id",
                       a->node_id, "name", a->node_name, "versions", "noded", NODED_VERSION, "kernel", host.release,
                       "architecture", host.machine, "containers", "max", (json_int_t)a->config->max_containers,
                       "total", (json_int_t)a->container_count, "by_status", counts(a), "capacity", "cores",
                       get_nprocs(), "memory_bytes", (json_int_t)info.totalram * info.mem_unit, "pool_total_bytes",
                       (json_int_t)(pool.f_blocks * pool.f_frsize), "pool_free_bytes",
                       (json_int_t)(pool.f_bavail * pool.f_frsize), "images", a->images, "kits", kits, "started_at",
                       api_time(a->started_at)));
}

static json_t *services_of(const struct agent *a, const struct container *c)
{
    json_t *list = json_array(), *manifest, *service;
    size_t i, k;

    json_array_foreach(a->kits, i, manifest)
    {
        const char *kit = json_string_value(json_object_get(manifest, "name"));

        if (!kits_find(c, kit))
            continue;
        json_array_foreach(json_object_get(manifest, "services"), k, service) json_array_append_new(
            list, json_pack("{s:s, s:O, s:O, s:O?, s:O?}", "kit", kit, "slug", json_object_get(service, "slug"), "port",
                            json_object_get(service, "port"), "protocol", json_object_get(service, "protocol"),
                            "health", json_object_get(service, "health")));
    }
    return list;
}

void node_routes(struct api_call *call)
{
    const struct agent *a = call->agent;
    json_t *list = json_array();

    for (size_t i = 0; i < a->container_count; i++) {
        const struct container *c = a->containers[i];

        json_array_append_new(
            list, json_pack("{s:s, s:s, s:s, s:s, s:b, s:s, s:s, s:s, s:o}", "container_id", c->record.id, "project_id",
                            c->record.project_id, "name", c->record.name, "status", container_status_word(c), "running",
                            strcmp(container_status_word(c), "running") == 0, "ipv4", c->net.ipv4, "ipv6", c->net.ipv6,
                            "interface", c->net.ifname, "services", services_of(a, c)));
    }
    reply_ok(call->req, 200, "Routes retrieved successfully",
             json_pack("{s:I, s:s, s:o}", "revision", (json_int_t)a->routes_revision, "node_id", a->node_id, "routes",
                       list));
}

void health_get(struct api_call *call)
{
    const struct agent *a = call->agent;

    reply_ok(call->req, 200, "OK",
             json_pack("{s:b, s:I, s:I, s:I, s:I}", "ready", a->ready, "operations", (json_int_t)a->operations,
                       "workers", (json_int_t)workers_count(a->workers), "store_lane",
                       (json_int_t)lane_length(a->store_lane), "network_lane", (json_int_t)lane_length(a->net_lane)));
}
