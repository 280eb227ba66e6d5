/* SPDX-License-Identifier: Apache-2.0 */
/* The node about itself, the routes a proxy needs, and the health check. */
#include <sys/sysinfo.h>
#include <sys/utsname.h>

#include "agent/api/api.h"
#include "agent/events/feed.h"
#include "agent/images/set.h"
#include "agent/kits/kits.h"
#include "agent/network/drift.h"
#include "agent/network/ipv6.h"
#include "agent/recovery/recovery.h"
#include "agent/storage/space.h"
#include "agent/tls_watch.h"
#include "agent/transfer/peer.h"

static json_t *counts(const struct agent *a)
{
    size_t n[CONTAINER_STATUS_MAX] = {0};
    json_t *j = json_object();

    for (size_t i = 0; i < a->container_count; i++)
        n[a->containers[i]->record.status] += a->containers[i]->record.spare == NULL;
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
    struct statvfs pool;
    json_t *kits = kits_of_suite(a, NULL);

    (void)space_pool(a, &pool);
    uname(&host);
    sysinfo(&info);
    reply_ok(call->req, 200, "Node retrieved successfully",
             json_pack("{s:s, s:s, s:{s:s, s:s, s:s}, s:{s:I, s:I, s:o}, s:{s:i, s:I, s:I, s:I}, s:o, s:o, s:o, s:o}",
                       "id", a->node_id, "name", a->node_name, "versions", "noded", NODED_VERSION, "kernel",
                       host.release, "architecture", host.machine, "containers", "max",
                       (json_int_t)a->config->max_containers, "total", (json_int_t)agent_shown_count(a), "by_status",
                       counts(a), "capacity", "cores", get_nprocs(), "memory_bytes",
                       (json_int_t)info.totalram * info.mem_unit, "pool_total_bytes",
                       (json_int_t)(pool.f_blocks * pool.f_frsize), "pool_free_bytes",
                       (json_int_t)(pool.f_bavail * pool.f_frsize), "images", image_names(a), "kits", kits, "ipv6",
                       ipv6_json(a), "started_at", api_time(a->started_at)));
}

void node_routes(struct api_call *call)
{
    autofree char *map = feed_map(call->agent);

    reply_ok_text(call->req, "Routes retrieved successfully", map);
}

void node_routes_stream(struct api_call *call)
{
    feed_stream(call->agent->feed, call->req);
}

static json_t *held_json(const struct agent *a)
{
    const struct judgement *j = a->judgement;

    return a->held ? json_pack("{s:s, s:s, s:s}", "reason", hold_word(j->reason), "message", hold_message(j), "remedy",
                               hold_remedy(j->reason))
                   : json_null();
}

/* Disks without a row, and rows without a disk. */
static json_t *records_json(const struct agent *a)
{
    size_t quarantined = 0, containers = 0, snapshots = 0;

    for (size_t i = 0; i < a->judgement->count; i++)
        quarantined += a->judgement->findings[i].verdict == FINDING_UNKNOWN;
    for (size_t i = 0; i < a->container_count; i++) {
        containers += a->containers[i]->record.disk_lost;
        for (size_t k = 0; k < a->containers[i]->snapshot_count; k++)
            snapshots += a->containers[i]->snapshots[k]->missing;
    }
    return json_pack("{s:I, s:I, s:I}", "quarantined", (json_int_t)quarantined, "missing_containers",
                     (json_int_t)containers, "missing_snapshots", (json_int_t)snapshots);
}

void health_get(struct api_call *call)
{
    const struct agent *a = call->agent;

    reply_ok(call->req, 200, "OK",
             json_pack("{s:b, s:o, s:o, s:o, s:I, s:I, s:I, s:I, s:o, s:o}", "ready", a->ready, "held", held_json(a),
                       "storage", space_health(a), "records", records_json(a), "operations", (json_int_t)a->operations,
                       "workers", (json_int_t)(workers_count(a->workers) + peers_count(a)), "store_lane",
                       (json_int_t)lane_length(a->store_lane), "network_lane", (json_int_t)lane_length(a->net_lane),
                       "network", drift_json(a), "tls", tls_watch_json(a)));
}
