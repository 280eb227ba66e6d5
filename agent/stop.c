/* SPDX-License-Identifier: Apache-2.0 */
/* Graceful end: no new requests, unfinished operations get some time, then the sockets close. What is cut off is
 * repaired by the next start like after a crash. */
#include "agent/commands/command.h"
#include "agent/containers/mount_watch.h"
#include "agent/containers/project.h"
#include "agent/containers/share.h"
#include "agent/containers/watch.h"
#include "agent/events/event.h"
#include "agent/events/feed.h"
#include "agent/events/stream.h"
#include "agent/events/trim.h"
#include "agent/http/local.h"
#include "agent/http/memory.h"
#include "agent/http/sse.h"
#include "agent/http/tls.h"
#include "agent/images/set.h"
#include "agent/images/task.h"
#include "agent/kits/rollout.h"
#include "agent/kits/watch.h"
#include "agent/network/conflict.h"
#include "agent/network/connections.h"
#include "agent/network/drift.h"
#include "agent/network/relay.h"
#include "agent/recovery/records.h"
#include "agent/recovery/recovery.h"
#include "agent/start.h"
#include "agent/stats/metrics.h"
#include "agent/stats/runtime.h"
#include "agent/stats/usage.h"
#include "agent/storage/expiry.h"
#include "agent/storage/reclaim.h"
#include "agent/storage/scrub.h"
#include "agent/storage/space.h"
#include "agent/tls_watch.h"
#include "agent/transfer/peer.h"
#include "agent/warm/warm.h"
#include "base/log.h"

enum { STOP_WAIT_MS = 20000, STOP_STEP_MS = 20 };

struct stopper {
    struct agent *agent;
    uv_timer_t timer;
    uint64_t give_up_ms;
    int open; /* things that still close */
    void *owner;
    void (*closed)(void *owner);
};

static void on_part_closed(void *owner)
{
    struct stopper *s = owner;

    if (--s->open > 0)
        return;
    s->closed(s->owner);
    free(s);
}

static void on_handle_closed(uv_handle_t *h)
{
    on_part_closed(h->data);
}

/* Listeners, and what they share. */
static void close_doors(struct stopper *s)
{
    struct agent *a = s->agent;

    if (a->tls_watch) {
        s->open++;
        tls_watch_close(a->tls_watch, s, on_part_closed);
    }
    if (a->memory) {
        s->open++;
        memory_close(a->memory, s, on_part_closed);
    }
    if (a->local) {
        s->open++;
        local_listener_close(a->local, s, on_part_closed);
    }
    if (a->tls) {
        s->open++;
        tls_listener_close(a->tls, s, on_part_closed);
    }
    if (a->tls_http) {
        s->open++;
        http_server_close(a->tls_http, s, on_part_closed);
    }
    if (a->control_http) {
        s->open++;
        http_server_close(a->control_http, s, on_part_closed);
    }
}

static void close_parts(struct stopper *s)
{
    struct agent *a = s->agent;

    s->open = 1;
    for (size_t i = 0; i < a->container_count; i++)
        watch_stop(a->containers[i]);
    s->open += relays_close(a, s, on_part_closed);
    if (a->drift) {
        s->open++;
        drift_close(a->drift, s, on_part_closed);
    }
    if (a->expiry) {
        s->open++;
        expiry_close(a->expiry, s, on_part_closed);
        s->open++;
        kit_watch_close(a->kit_watch, s, on_part_closed);
        s->open++;
        mount_watch_close(a->mount_watch, s, on_part_closed);
        s->open++;
        space_close(a->space, s, on_part_closed);
        s->open++;
        connections_close(a->connections, s, on_part_closed);
        s->open++;
        reclaim_close(a->reclaim, s, on_part_closed);
        a->reclaim = NULL;
        s->open++;
        scrub_close(a->scrub, s, on_part_closed);
        s->open++;
        warm_close(a->warm, s, on_part_closed);
    }
    if (a->retention) {
        s->open++;
        retention_close(a->retention, s, on_part_closed);
    }
    if (a->sse) {
        s->open++;
        sse_close(a->sse, s, on_part_closed);
        s->open++;
        feed_close(a->feed, s, on_part_closed);
    }
    close_doors(s);
    uv_close((uv_handle_t *)&s->timer, on_handle_closed);
}

static void on_timer(uv_timer_t *timer)
{
    struct stopper *s = timer->data;
    struct agent *a = s->agent;
    bool idle = a->operations == 0 && workers_count(a->workers) == 0 && workers_count(a->stream_workers) == 0 &&
                workers_count(a->wait_workers) == 0 && peers_count(a) == 0 && lane_length(a->store_lane) == 0 &&
                lane_length(a->read_lane) == 0 && lane_length(a->net_lane) == 0 && lane_length(a->parse_lane) == 0 &&
                !records_busy(a->records);

    if (!idle && uv_now(a->loop) < s->give_up_ms)
        return;
    uv_timer_stop(timer);
    if (idle) {
        close_parts(s);
        return;
    }
    log_warning(NULL, "%zu operations are cut off; the next start repairs them", a->operations);
    _exit(0);
}

void agent_stop(struct agent *a, void *owner, void (*closed)(void *owner))
{
    struct stopper *s = mem_new(struct stopper);

    a->stopping = true;
    peers_stop(a);
    *s = (struct stopper){.agent = a, .owner = owner, .closed = closed, .give_up_ms = uv_now(a->loop) + STOP_WAIT_MS};
    uv_timer_init(a->loop, &s->timer);
    s->timer.data = s;
    uv_timer_start(&s->timer, on_timer, 0, STOP_STEP_MS);
}

void agent_free(struct agent *a)
{
    if (!a)
        return;
    while (a->container_count > 0)
        agent_remove(a, a->containers[0]);
    free(a->containers);
    while (a->project_count > 0)
        project_remove(a, a->projects[0]);
    free(a->projects);
    while (a->share_count > 0)
        share_remove(a, a->shares[0]);
    free(a->shares);
    drift_free(a->drift);
    nf_close(a->nf);
    usage_free(a->usage);
    scrub_free(a->scrub);
    metrics_free(a->metrics);
    runtime_free(a->runtime);
    peers_free(a);
    workers_free(a->workers);
    workers_free(a->stream_workers);
    workers_free(a->wait_workers);
    lane_free(a->store_lane);
    lane_free(a->read_lane);
    lane_free(a->parse_lane);
    lane_free(a->net_lane);
    records_free(a->records);
    judgement_clear(a->judgement);
    free(a->judgement);
    locks_release(&a->locks);
    store_close(a->reader);
    store_close(a->store);
    event_streams_free(a->event_streams);
    events_free(a->events);
    commands_free(a->command_rates);
    conflicts_free(a->conflicts);
    images_free(a);
    image_tasks_free(a);
    memory_free(a->memory);
    rollout_free(a);
    json_decref(a->kits);
    json_decref(a->kits_installed);
    free(a->node_name);
    config_free(a->config);
    free(a);
}
