/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/start.h"

#include <dirent.h>
#include <pwd.h>
#include <stdio.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "agent/api/api.h"
#include "agent/containers/guest.h"
#include "agent/containers/mount_watch.h"
#include "agent/containers/project.h"
#include "agent/events/feed.h"
#include "agent/events/stream.h"
#include "agent/events/trim.h"
#include "agent/http/listen.h"
#include "agent/http/local.h"
#include "agent/http/memory.h"
#include "agent/http/sse.h"
#include "agent/http/tls.h"
#include "agent/images/set.h"
#include "agent/kits/kits.h"
#include "agent/kits/rollout.h"
#include "agent/kits/watch.h"
#include "agent/load.h"
#include "agent/network/connections.h"
#include "agent/network/drift.h"
#include "agent/network/ipv6.h"
#include "agent/network/relay.h"
#include "agent/preflight.h"
#include "agent/reconcile.h"
#include "agent/recovery/records.h"
#include "agent/recovery/recovery.h"
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
#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"

enum { STREAM_WORKERS = 4, WAIT_WORKERS = 32 /* a rollout may have half of them */ };

struct starter {
    struct agent *agent;
    void *owner;
    agent_done_fn *done;
    json_t *intents, *inventory;
    json_t *imports; /* [{"file"}]: what is new in the kits directory */
    size_t next_import;
    char *accepted;    /* see load_open */
    struct err *error; /* that ends the start when it has been undone */
    bool rebooted;
};

static void end(struct starter *s, struct err *e)
{
    json_decref(s->intents);
    json_decref(s->inventory);
    json_decref(s->imports);
    free(s->accepted);
    s->done(s->owner, e);
    free(s);
}

static void on_boot_seen(void *owner, struct err *e)
{
    (void)owner;
    log_err(NULL, LOG_LEVEL_WARNING, e, "the boot of the host is not recorded, ignoring");
}

static struct err *serve(struct agent *a)
{
    const size_t bodies = (size_t)a->config->bodies_max;
    struct http_config http = {
        .body_max = (size_t)a->config->body_max, .owner = a, .handler = a->handler, .is_upload = api_is_upload};
    int control_fd = -1, tls_fd = -1;
    struct err *e = listen_open(a->config, &control_fd, &tls_fd);

    if (e)
        return e;
    a->memory = http.memory = memory_start(a->loop, bodies, bodies / 2);
    e = http_server_start(a->loop, &http, &a->control_http);
    if (!e)
        a->local = local_listener_start(a->loop, control_fd, a->control_http, a->memory);
    if (!e && tls_fd >= 0)
        e = http_server_start(a->loop, &http, &a->tls_http);
    if (!e && tls_fd >= 0)
        e = tls_listener_start(a->loop, tls_fd, a->config, a->tls_http, a->memory, &a->tls);
    return e;
}

static struct err *check_history(void *arg)
{
    return store_check_history(((struct agent *)arg)->reader);
}

static void on_history_checked(void *arg, struct err *e)
{
    (void)arg;
    log_err(NULL, LOG_LEVEL_ERR, e, "the database's events or logs are damaged; put a backup in its place");
}

static void on_synced(void *owner, struct err *e)
{
    struct starter *s = owner;
    struct agent *a = s->agent;

    e = err_wrap(e, "network");
    if (!e)
        e = drift_start(a, &a->drift);
    if (!e) {
        relay_adopt(a);
        e = serve(a);
    }
    if (!e) {
        a->expiry = expiry_start(a);
        a->kit_watch = kit_watch_start(a);
        a->mount_watch = mount_watch_start(a);
        a->space = space_start(a);
        a->connections = connections_start(a);
        a->reclaim = reclaim_start(a);
        scrub_start(a->scrub);
        a->retention = retention_start(a);
        a->sse = sse_start(a);
        a->feed = feed_start(a);
        a->event_streams = event_streams_start(a);
        a->tls_watch = a->tls ? tls_watch_start(a) : NULL;
        a->ready = true;
        a->warm = warm_start(a);
        ipv6_bring(a);
        reconcile_resume(a, s->intents, s->rebooted);
        projects_resume(a);
        rollout_resume(a);
        guest_drop_ramdisks(a, NULL);
        records_refresh(a);
        lane_submit(a->read_lane, check_history, a, on_history_checked);
        agent_commit(a, load_boot_seen(), NULL, on_boot_seen);
    }
    end(s, e);
}

/* uids of the accounts whose connections count as the proxy's. */
static uint32_t *proxy_uids(const struct config *c, size_t *ret_count)
{
    uint32_t *uids = NULL;
    size_t n = 0;

    for (char **p = c->proxy_users; p && *p; p++) {
        const struct passwd *pw = getpwnam(*p);

        if (!pw)
            continue;
        uids = mem_grow(uids, n + 1, sizeof(*uids));
        uids[n++] = pw->pw_uid;
    }
    *ret_count = n;
    return uids;
}

static struct err *ports(const char *key, char *const *texts, uint16_t **ret, size_t *ret_count)
{
    for (; texts && *texts; texts++) {
        int64_t port;

        if (!str_to_i64(*texts, &port) || port < 1 || port > 65535)
            return err_field(key, "must be ports 1..65535");
        *ret = mem_grow(*ret, *ret_count + 1, sizeof(**ret));
        (*ret)[(*ret_count)++] = (uint16_t)port;
    }
    return NULL;
}

static struct err *open_network(struct agent *a)
{
    const struct config *c = a->config;
    struct nf_config nf = {.table = c->table,
                           .plan = a->plan,
                           .uplink = c->uplink,
                           .inter_container = c->inter_container,
                           .ipv4_only = a->ipv6_off != NULL,
                           .drop_ipv6 = str_eq(c->firewall_ipv6, "drop"),
                           .share_percent = (int)c->connections_share,
                           .reserve_percent = (int)c->connections_reserve};
    autofree uint32_t *uids = proxy_uids(c, &nf.proxy_uid_count);
    autofree uint16_t *tcp = NULL, *udp = NULL;
    struct err *e = ports("network.host_ports", c->host_ports, &tcp, &nf.host_tcp_port_count);

    if (!e)
        e = ports("network.host_udp_ports", c->host_udp_ports, &udp, &nf.host_udp_port_count);
    nf.host_tcp_ports = tcp;
    nf.host_udp_ports = udp;
    nf.proxy_uids = uids;
    return e ? e : nf_open(&nf, &a->nf);
}

static void go_network(struct starter *s)
{
    struct agent *a = s->agent;
    struct err *e = open_network(a);

    if (e) {
        end(s, err_wrap(e, "network"));
        return;
    }
    reconcile_adopt(a, s->inventory, s->intents, s->rebooted);
    net_sync(a, s, on_synced);
}

static void next_import(struct starter *s);

static void on_imported(void *owner, struct err *e, json_t *result)
{
    struct starter *s = owner;
    const json_t *import = json_array_get(s->imports, s->next_import);
    const char *file = json_string_value(json_object_get(import, "file"));

    if (e) {
        e = err_wrap(e, "%s", file);
        log_err(NULL, LOG_LEVEL_ERR, e, "cannot import, ignoring the file");
    } else {
        log_notice(NULL, "imported %s", file);
        json_array_append(json_object_get(s->inventory, "kits"), result);
    }
    json_decref(result);
    s->next_import++;
    next_import(s);
}

static void next_import(struct starter *s)
{
    const json_t *import = json_array_get(s->imports, s->next_import);
    struct agent *a = s->agent;
    struct job_kit_install args;
    char *file;

    if (!import) {
        kits_load(a, json_incref(json_object_get(s->inventory, "kits")));
        go_network(s);
        return;
    }
    file = (char *)(uintptr_t)json_string_value(json_object_get(import, "file"));
    sd_notifyf(0, "STATUS=importing %s\nEXTEND_TIMEOUT_USEC=600000000", file);
    args = (struct job_kit_install){.file = file, .public_key = a->config->kits_public_key};
    agent_job(a, JOB_KIT_INSTALL, 0, &args, 0, s, on_imported);
}

static bool ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), m = strlen(end);

    return n > m && strcmp(s + n - m, end) == 0;
}

/* A bundle is named NAME-VERSION.kit. */
static bool have_kit(const json_t *inventory, const char *file)
{
    json_t *v;
    size_t i;

    json_array_foreach(json_object_get(inventory, "kits"), i, v)
    {
        autofree char *name = str_fmt("%s-%s.kit", json_string_value(json_object_get(v, "name")),
                                      json_string_value(json_object_get(v, "version")));

        if (str_eq(name, file))
            return true;
    }
    return false;
}

static void scan(struct starter *s, const char *dir)
{
    DIR *d = opendir(dir);
    const struct dirent *entry;

    while (d && (entry = readdir(d))) {
        autofree char *file = str_fmt("%s/%s", dir, entry->d_name);

        if (ends_with(entry->d_name, ".kit") && !have_kit(s->inventory, entry->d_name))
            json_array_append_new(s->imports, json_pack("{s:s}", "file", file));
    }
    if (d)
        closedir(d);
}

static void on_images(void *owner)
{
    struct starter *s = owner;

    scan(s, s->agent->config->kits_dir);
    next_import(s);
}

/* The pool belongs to this database: it may be changed from here on. */
static void on_prepared(void *owner, struct err *e, json_t *result)
{
    struct starter *s = owner;
    struct agent *a = s->agent;

    a->disk_quota = json_is_true(json_object_get(result, "quota"));
    json_decref(result);
    e = err_wrap(e, "storage pool");
    if (!e)
        e = load_state(a, &s->intents);
    if (e)
        end(s, e);
    else
        images_scan(a, s->inventory, s, on_images);
}

/* Nothing is loaded, started or changed until an operator has decided; then the daemon starts anew. */
static void hold(struct starter *s)
{
    struct agent *a = s->agent;
    const struct judgement *j = a->judgement;

    a->held = true;
    log_error(NULL, "the node is held: %s; containers, pool and firewall stay as they are; %s", hold_message(j),
              hold_remedy(j->reason));
    end(s, serve(a));
}

static void on_inventory(void *owner, struct err *e, json_t *result)
{
    struct starter *s = owner;
    struct agent *a = s->agent;
    const struct job_pool_open args = {.loop_file = a->config->loop_file, .quota = a->config->quota};

    s->inventory = result;
    e = err_wrap(e, "inventory");
    if (!e)
        e = judge(a, s->inventory, s->accepted, a->judgement);
    if (!e && a->judgement->reason == HOLD_NONE)
        e = judge_agree(a, a->judgement);
    if (e)
        end(s, e);
    else if (a->judgement->reason != HOLD_NONE)
        hold(s);
    else
        agent_job(a, JOB_POOL_PREPARE, 0, &args, 0, s, on_prepared);
}

static void on_pool_closed(void *owner, struct err *e, json_t *result)
{
    struct starter *s = owner;

    json_decref(result);
    log_err(NULL, LOG_LEVEL_WARNING, e, "the pool stays mounted");
    end(s, s->error);
}

static void on_pool(void *owner, struct err *e, json_t *result)
{
    struct starter *s = owner;
    struct agent *a = s->agent;
    bool mounted = json_is_true(json_object_get(result, "mounted"));

    json_decref(result);
    e = err_wrap(e, "storage pool");
    if (e && judge_knows_containers(a)) {
        a->judgement->reason = HOLD_POOL_MISSING;
        a->judgement->message = str_dup(err_message(e));
        err_free(e);
        hold(s);
        return;
    }
    if (e) {
        end(s, e);
        return;
    }
    s->error = locks_take_pool(a->config, &a->locks);
    if (s->error && mounted) /* a second mount of a pool that another daemon has */
        agent_job(a, JOB_POOL_CLOSE, 0, NULL, 0, s, on_pool_closed);
    else if (s->error)
        end(s, s->error);
    else
        agent_job(a, JOB_INVENTORY, 0, NULL, 0, s, on_inventory);
}

static struct err *begin(struct starter *s)
{
    struct agent *a = s->agent;
    struct config *c = a->config;
    char host[256] = "";
    struct err *e = net_plan_init(&a->plan, c->veth_prefix, c->ipv4_pool, c->ipv6_pool);

    if (e)
        return err_wrap(e, "network");
    if (gethostname(host, sizeof(host) - 1) != 0)
        snprintf(host, sizeof(host), "node");
    ipv6_look(a);
    a->node_name = str_dup(c->node_name ? c->node_name : host);
    e = locks_take(c, &a->locks);
    if (!e)
        e = load_open(a, &s->rebooted, &s->accepted);
    if (e)
        return e;
    preflight_limits();
    c->ramdisk_size = preflight_ramdisk(c->ramdisk_size);
    return NULL;
}

struct agent *agent_start(uv_loop_t *loop, struct config *config, http_handler_fn *handler, void *owner,
                          agent_done_fn *done)
{
    struct agent *a = mem_new(struct agent);
    struct starter *s = mem_new(struct starter);
    struct job_pool_open args = {.loop_file = config->loop_file, .loop_bytes = config->loop_size};
    struct err *e;

    *s = (struct starter){.agent = a, .owner = owner, .done = done, .imports = json_array()};
    a->loop = loop;
    a->config = config;
    a->handler = handler;
    a->started_at = clock_wall_ms();
    a->routes_revision = (uint64_t)a->started_at; /* grows over restarts too */
    a->kits = json_array();
    a->kits_installed = json_array();
    a->store_lane = lane_new(loop, "store");
    a->read_lane = lane_new(loop, "read");
    a->net_lane = lane_new(loop, "network");
    a->parse_lane = lane_new(loop, "parse");
    json_object_seed(0); /* before two threads make objects */
    a->usage = usage_new(a);
    a->metrics = metrics_new(a);
    a->runtime = runtime_new(a);
    a->workers = workers_new(loop, config->worker, (size_t)config->workers);
    a->stream_workers = workers_new(loop, config->worker, STREAM_WORKERS);
    a->wait_workers = workers_new(loop, config->worker, WAIT_WORKERS);
    a->peers = peers_new(a);
    a->locks = (struct locks)LOCKS_NONE;
    a->records = records_new(a);
    a->judgement = mem_new(struct judgement);
    e = begin(s);
    args.must_exist = !e && judge_knows_containers(a) && !str_eq(s->accepted, hold_word(HOLD_POOL_MISSING));
    if (e)
        end(s, e);
    else
        agent_job(a, JOB_POOL_OPEN, 0, &args, 0, s, on_pool);
    return a;
}
