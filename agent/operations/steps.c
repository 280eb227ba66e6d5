/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/operations/steps.h"

#include "agent/containers/limits.h"
#include "agent/containers/share.h"
#include "agent/containers/snapshots.h"
#include "agent/containers/ssh_host_key.h"
#include "agent/containers/watch.h"
#include "agent/kits/watch.h"
#include "agent/network/ipv6.h"
#include "agent/network/relay.h"
#include "agent/operations/takeover.h"
#include "agent/recovery/records.h"
#include "agent/transfer/peer.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"

static void on_net(void *owner, struct err *e)
{
    op_step_done(owner, e);
}

static void on_job(void *owner, struct err *e, json_t *result)
{
    struct operation *op = owner;

    if (result) {
        json_decref(op->result);
        op->result = result;
    }
    op_step_done(op, e);
}

/* What to add to a kind's deadline so that the operation's own bound holds. Undoing is not bounded by it. */
static int64_t bounded(const struct operation *op, enum job_kind kind)
{
    int64_t bound = json_integer_value(json_object_get(op->args, "timeout_ms"));

    return bound > 0 && !op->unwinding ? MIN(0, bound - job_info(kind)->deadline_ms) : 0;
}

void step_job(struct operation *op, enum job_kind kind, const void *args)
{
    agent_job(op->agent, kind, op->container->record.slot, args, bounded(op, kind), op, on_job);
}

void step_nothing(struct operation *op)
{
    op_step_done(op, NULL);
}

static void on_cleaned(void *owner, struct err *e, json_t *result)
{
    struct operation *op = owner;

    json_decref(result);
    if (e)
        op_step_done(op, e);
    else
        net_down(op->agent, op->container, op, on_net);
}

void step_clean(struct operation *op)
{
    if (op->attempt == 1) {
        op_step_done(op, NULL);
        return;
    }
    watch_stop(op->container);
    agent_job(op->agent, JOB_DESTROY, op->container->record.slot, NULL, 0, op, on_cleaned);
}

json_t *seed_of(const struct agent *a, const struct container *c)
{
    const struct container_record *r = &c->record;
    const struct log_ctx ctx = {.container = r->id};
    autofree char *host_key = NULL, *host_key_public = NULL;
    json_t *dns = json_array();

    log_err(&ctx, LOG_LEVEL_WARNING, ssh_host_key_new(&host_key, &host_key_public), "sshd may be without a key");
    for (char **p = a->config->dns; p && *p; p++)
        if (!a->ipv6_off || !strchr(*p, ':'))
            json_array_append_new(dns, json_string(*p));
    return json_pack("{s:s, s:s, s:s, s:s?, s:s?, s:s?, s:O, s:s, s:s?, s:s, s:s?, s:o, s:O}", "container_id", r->id,
                     "hostname", r->hostname, "machine_id", r->machine_id, "ssh_public_key", r->ssh_public_key,
                     "host_key", host_key, "host_key_public", host_key_public, "environment", r->environment, "ipv4",
                     c->net.ipv4, "ipv6", ipv6_address(a, c), "gateway4", NET_GATEWAY4, "gateway6", ipv6_gateway(a),
                     "dns", dns, "kits", r->kits);
}

static void on_rootfs(void *owner, struct err *e, json_t *result)
{
    struct operation *op = owner;

    if (!e)
        records_write_container(op->agent, op->container);
    on_job(owner, e, result);
}

void step_rootfs(struct operation *op)
{
    const struct container *c = op->container;
    autojson seed = seed_of(op->agent, c);
    autojson snapshots = NULL;
    struct job_create args = {
        .image = op->source ? NULL : c->record.image_fingerprint,
        .base = c->record.base,
        .source_slot = op->source ? op->source->record.slot : 0,
        .source_snapshot = (char *)(uintptr_t)op_arg(op, "snapshot"),
        .seed = seed,
    };

    if (op->source && !op_arg(op, "snapshot")) {
        json_object_set_new(op->args, "snapshots", snapshots_save(op->source));
        args.snapshots = snapshots = snapshots_names(json_object_get(op->args, "snapshots"));
    }
    op->container->record.kits_linked = true; /* by the seed */
    if (op_arg(op, "server"))
        peer_fetch(op, JOB_PEER_COPY);
    else
        agent_job(op->agent, JOB_CREATE, c->record.slot, &args, bounded(op, JOB_CREATE), op, on_rootfs);
}

void step_destroy(struct operation *op)
{
    watch_stop(op->container);
    step_job(op, JOB_DESTROY, NULL);
}

void step_net_up(struct operation *op)
{
    /* A repeated start may find the container running: its link is in use then. */
    relay_apply(op->agent, op->container);
    if (op->container->init_pid)
        op_step_done(op, NULL);
    else
        net_up(op->agent, op->container, true, op, on_net);
}

void step_net_open(struct operation *op)
{
    net_rules(op->agent, op->container, false, op, on_net);
}

void step_net_rules(struct operation *op)
{
    struct container *c = op->container;

    /* Without a link there are no rules; they come with the link, closed first. */
    if (container_is_up(c) || c->init_pid)
        net_rules(op->agent, c, false, op, on_net);
    else
        op_step_done(op, NULL);
}

void step_net_down(struct operation *op)
{
    net_down(op->agent, op->container, op, on_net);
}

static void on_started(void *owner, struct err *e, json_t *result)
{
    struct operation *op = owner;

    op->container->starting = false;
    if (!e) {
        watch_start(op->agent, op->container, json_integer_value(json_object_get(result, "init_pid")));
        op->container->record.started_at = clock_wall_ms();
        guest_started(op->agent, op->container, op->guest_revisions, result);
    }
    json_decref(result);
    op_step_done(op, e);
}

void step_start(struct operation *op)
{
    struct container *c = op->container;
    const struct config *config = op->agent->config;
    autojson environment = json_copy(c->record.environment);
    autojson files = guest_start_files(c, op->guest_revisions);
    autojson shares = share_mounts_wanted(op->agent, c);
    const struct job_start args = {
        .hostname = c->record.hostname,
        .id_base = container_id_base(config, c),
        .link = c->net.peer,
        .ipv4 = c->net.ipv4,
        .ipv6 = (char *)(uintptr_t)ipv6_address(op->agent, c),
        .gateway4 = (char *)(uintptr_t)NET_GATEWAY4,
        .gateway6 = (char *)(uintptr_t)ipv6_gateway(op->agent),
        .gateway_mac = c->net.mac_host,
        .environment = environment,
        .subvolumes = config->subvolumes,
        .disk_bytes = limits_disk(c),
        .ramdisk_bytes = c->record.ramdisk ? config->ramdisk_size : 0,
        .ramdisk_project = guest_ramdisk_project(c),
        .kits = c->record.kits,
        .files = files,
        .shares = shares,
    };

    if (!c->record.spare) /* process 1 keeps it for as long as it lives */
        json_object_set_new(environment, "HOODY_CONTAINER_ID", json_string(c->record.id));
    c->starting = true;
    agent_job(op->agent, JOB_START, c->record.slot, &args, bounded(op, JOB_START), op, on_started);
}

/* That a service is not ready is no failure: the watch goes on asking, and says so in the end. */
static void on_kits(void *owner, struct err *e, json_t *result)
{
    struct operation *op = owner;
    json_t *services = json_object_get(result, "services");

    if (services)
        kit_watch_take(op->agent, NULL, op->container, services, op->stage_us / 1000);
    err_ignore(e);
    json_decref(result);
    op_step_done(op, NULL);
}

void step_kits(struct operation *op)
{
    const struct container *c = op->container;
    const struct config *config = op->agent->config;
    const int64_t patience_ms = (c->record.spare ? config->health_timeout_s : config->create_wait_s) * 1000;
    const struct job_kits args = {
        .before = c->record.kits, .kits = c->record.kits, .timeout_ms = patience_ms, .boot = true};

    if (patience_ms == 0 || (json_array_size(c->record.kits) == 0 && !c->record.spare)) {
        op_step_done(op, NULL);
        return;
    }
    kit_watch_begin(op->agent, op->container);
    agent_wait_job(op->agent, JOB_KITS, c->record.slot, &args, patience_ms, op, on_kits);
}

static void on_trimmed(void *owner, struct err *e, json_t *result)
{
    struct operation *op = owner;

    op->container->spare_before = json_integer_value(json_object_get(result, "before"));
    op->container->spare_after = json_integer_value(json_object_get(result, "after"));
    json_decref(result);
    err_ignore(e); /* it takes more room then */
    op_step_done(op, NULL);
}

void step_trim(struct operation *op)
{
    if (op->container->record.spare)
        agent_job(op->agent, JOB_TRIM, op->container->record.slot, NULL, 0, op, on_trimmed);
    else
        op_step_done(op, NULL);
}

static void on_waited(void *owner, struct err *e, json_t *result)
{
    on_job(owner, takeover_after_wait(owner, e), result);
}

/* The bound is the job's own: it kills when the time is over. It is among those that wait, so that no number of guests
 * that take their time is in the way of a force-stop. */
static void stop_gently(struct operation *op, int64_t timeout_ms)
{
    const struct job_stop args = {.timeout_ms = timeout_ms};

    watch_stop(op->container);
    op->waits = agent_wait_job(op->agent, JOB_STOP, op->container->record.slot, &args, timeout_ms, op, on_waited);
}

void step_stop(struct operation *op)
{
    const json_t *timeout = json_object_get(op->args, "timeout_ms");

    if (op->attempt == 1 && !op->container->init_pid)
        op_step_done(op, NULL);
    else
        stop_gently(op, timeout ? json_integer_value(timeout) : op->agent->config->stop_timeout_s * 1000);
}

void step_kill(struct operation *op)
{
    const struct job_stop args = {.timeout_ms = 0};

    /* One that took over does not know: the stop that it ended has given up the watch. */
    if (op->attempt == 1 && !op->unwinding && !op->took_over && !op->container->init_pid) {
        op_step_done(op, NULL);
        return;
    }
    watch_stop(op->container);
    step_job(op, JOB_STOP, &args);
}

void outcome_running(struct operation *op, struct store_tx *tx)
{
    (void)tx;
    op->container->record.status = CONTAINER_RUNNING;
    op->container->record.wanted_running = true;
}

void outcome_stopped(struct operation *op, struct store_tx *tx)
{
    (void)tx;
    /* What has failed has no root file system to start from; being stopped does not mend that. */
    op->container->record.status = op->from == CONTAINER_FAILED ? CONTAINER_FAILED : CONTAINER_STOPPED;
    op->container->record.started_at = 0;
}

void outcome_failed(struct operation *op, struct store_tx *tx)
{
    (void)tx;
    op->container->record.status = CONTAINER_FAILED;
    op->container->record.started_at = 0;
}

void outcome_as_before(struct operation *op, struct store_tx *tx)
{
    (void)tx;
    op->container->record.status = op->from;
}
