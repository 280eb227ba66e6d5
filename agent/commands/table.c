/* SPDX-License-Identifier: Apache-2.0 */
/* The commands and what they do. docs/API.md lists them. */

#include "agent/commands/command.h"
#include "agent/events/trim.h"
#include "agent/images/set.h"
#include "agent/kits/kits.h"
#include "agent/stats/usage.h"
#include "agent/storage/space.h"
#include "base/clock.h"
#include "base/str.h"

enum { DAY_MS = 86400000 };

const char *const command_risk_words[] = {"low", "medium", "high", "critical", NULL};

static void node_status(struct command_run *run)
{
    const struct agent *a = run->agent;
    json_t *busy = json_array();

    for (size_t i = 0; i < a->container_count; i++) {
        const struct container *c = a->containers[i];

        if (c->op && !c->record.spare)
            json_array_append_new(busy, json_pack("{s:s, s:s, s:s}", "container_id", c->record.id, "operation",
                                                  c->op->kind->name, "operation_id", c->op->id));
    }
    command_done(run, NULL,
                 json_pack("{s:s, s:s, s:o, s:I, s:o, s:I, s:I, s:I, s:I}", "name", a->node_name, "version",
                           NODED_VERSION, "started_at", api_time(a->started_at), "containers",
                           (json_int_t)agent_shown_count(a), "operations", busy, "workers",
                           (json_int_t)workers_count(a->workers), "store_lane", (json_int_t)lane_length(a->store_lane),
                           "read_lane", (json_int_t)lane_length(a->read_lane), "network_lane",
                           (json_int_t)lane_length(a->net_lane)));
}

static void pool_usage(struct command_run *run)
{
    struct statvfs fs;

    if (!space_pool(run->agent, &fs))
        command_done(run, err_new(ERR_HOST, "the pool cannot be read"), NULL);
    else
        command_done(run, NULL,
                     json_pack("{s:s, s:I, s:I, s:I}", "pool", run->agent->config->pool, "total_bytes",
                               (json_int_t)(fs.f_blocks * fs.f_frsize), "used_bytes",
                               (json_int_t)((fs.f_blocks - fs.f_bfree) * fs.f_frsize), "free_bytes",
                               (json_int_t)(fs.f_bavail * fs.f_frsize)));
}

static void on_disk(void *owner, const json_t *usage)
{
    struct command_run *run = owner;
    const struct agent *a = run->agent;
    json_t *list = json_array();

    for (size_t i = 0; i < a->container_count; i++) {
        const struct container *c = a->containers[i];
        const json_t *use = usage_of_slot(usage, c->record.slot);

        if (c->record.spare)
            continue;
        json_array_append_new(list, json_pack("{s:s, s:s, s:O?, s:O?}", "container_id", c->record.id, "name",
                                              c->record.name, "disk_bytes", json_object_get(use, "disk"),
                                              "ramdisk_bytes", json_object_get(use, "ramdisk")));
    }
    command_done(run, NULL, json_pack("{s:o}", "containers", list));
}

static void disk_usage(struct command_run *run)
{
    usage_get(run->agent->usage, run, on_disk);
}

static void list_images(struct command_run *run)
{
    command_done(run, NULL,
                 json_pack("{s:o, s:o}", "images", image_names(run->agent), "kits", kits_of_suite(run->agent, NULL)));
}

static void on_job(void *owner, struct err *e, json_t *result)
{
    command_done(owner, e, result);
}

static void node_inventory(struct command_run *run)
{
    agent_job(run->agent, JOB_INVENTORY, 0, NULL, 0, run, on_job);
}

static void container_services(struct command_run *run)
{
    const struct container *c = agent_find(run->agent, command_string(run, "container_id"));
    const struct job_look args = {.services = c && c->record.status == CONTAINER_RUNNING};

    if (c && c->init_pid)
        agent_job(run->agent, JOB_LOOK, c->record.slot, &args, 0, run, on_job);
    else
        command_done(run, err_new(ERR_WRONG_STATE, "The container is not running"), NULL);
}

static void on_trimmed(void *owner, struct err *e, int64_t deleted)
{
    command_done(owner, e, json_pack("{s:I}", "deleted_count", (json_int_t)deleted));
}

static void prune_events(struct command_run *run)
{
    event_trim(run->agent, clock_wall_ms() - command_integer(run, "retention_days") * DAY_MS, 0, run, on_trimmed);
}

static void on_synced(void *owner, struct err *e)
{
    command_done(owner, e, json_pack("{s:b}", "synced", e == NULL));
}

static void network_resync(struct command_run *run)
{
    net_sync(run->agent, run, on_synced);
}

static void restart_next(struct command_run *run);

/* state: {"restarted": [...], "failed": [...], "skipped": [...]}, and "ids" of those that are still to do. */
static void on_restarted(struct operation *op, struct err *e)
{
    struct command_run *run = op->owner;

    json_array_append_new(json_object_get(run->state, e ? "failed" : "restarted"),
                          json_string(op->container->record.id));
    err_free(e);
    restart_next(run);
}

/* One after the other, so that the server keeps answering; at the next one the list may be another. */
static void restart_next(struct command_run *run)
{
    struct agent *a = run->agent;
    const json_t *ids = json_object_get(run->state, "ids");

    while (!run->over && !a->stopping && run->at < json_array_size(ids)) {
        const char *id = json_string_value(json_array_get(ids, run->at++));
        struct container *c = agent_find(a, id);
        struct operation *op;

        if (!c || c->op || c->record.status != CONTAINER_RUNNING) {
            json_array_append_new(json_object_get(run->state, "skipped"), json_string(id));
            continue;
        }
        op = operation_new(a, &op_restart, c, NULL, "user");
        op->owner = run;
        op->done = on_restarted;
        operation_start(op, NULL);
        return;
    }
    json_object_del(run->state, "ids");
    command_done(run, NULL, json_incref(run->state));
}

static void container_restart_all(struct command_run *run)
{
    json_t *ids = json_array();

    for (size_t i = 0; i < run->agent->container_count; i++)
        if (run->agent->containers[i]->record.status == CONTAINER_RUNNING && !run->agent->containers[i]->record.spare)
            json_array_append_new(ids, json_string(run->agent->containers[i]->record.id));
    run->state = json_pack("{s:o, s:[], s:[], s:[]}", "ids", ids, "restarted", "failed", "skipped");
    restart_next(run);
}

#define COMMAND(slug_, name_, category_, risk_, timeout_, cooldown_, hour_, day_, run_, description_, ...)             \
    {                                                                                                                  \
        .slug = (slug_), .name = (name_), .description = (description_), .category = (category_), .risk = (risk_),     \
        .timeout_s = (timeout_), .cooldown_s = (cooldown_), .per_hour = (hour_), .per_day = (day_), .run = (run_),     \
        __VA_ARGS__                                                                                                    \
    }

const struct command commands[] = {
    COMMAND("node-status", "Node status", "monitoring", RISK_LOW, 10, 0, 600, 1000, node_status,
            "Version, number of containers, operations and jobs under way"),
    COMMAND("pool-usage", "Pool usage", "storage", RISK_LOW, 10, 0, 600, 1000, pool_usage,
            "Size of the storage pool and what is used of it"),
    COMMAND("disk-usage", "Disk usage", "storage", RISK_LOW, 30, 2, 600, 1000, disk_usage,
            "What each container has written to its disk and ramdisk"),
    COMMAND("list-images", "List images", "storage", RISK_LOW, 10, 0, 600, 1000, list_images,
            "Images and kits that containers can be made from"),
    COMMAND("node-inventory", "Inventory", "maintenance", RISK_LOW, 60, 10, 60, 500, node_inventory,
            "What is really there of the node's containers, from disk and kernel; removes what waits in the trash"),
    COMMAND("container-services", "Services of a container", "containers", RISK_LOW, 10, 0, 600, 1000,
            container_services, "Services and listening sockets as seen from inside",
            .params =
                {{.name = "container_id", .description = "A running container", .required = true, .container = true}}),
    COMMAND("prune-events", "Prune events", "maintenance", RISK_MEDIUM, 300, 10, 12, 100, prune_events,
            "Removes events that are older than so many days",
            .params = {{.name = "retention_days",
                        .description = "Days to keep",
                        .integer = true,
                        .required = true,
                        .min = 1,
                        .max = 3650}}),
    COMMAND("network-resync", "Network resync", "network", RISK_MEDIUM, 60, 5, 60, 500, network_resync,
            "Makes links, routes and firewall in the kernel as recorded; connections go on"),
    COMMAND("container-restart-all", "Restart all containers", "containers", RISK_HIGH, 3600, 60, 4, 20,
            container_restart_all, "Restarts every running container, one after the other", .confirm = true),
};
const size_t command_count = ARRAY_LEN(commands);

void command_id(const struct command *c, char ret[ID_OBJECT_LEN + 1])
{
    id_of_name("command", c->slug, ret);
}

const struct command *command_find(const char *id, const char *slug)
{
    for (size_t i = 0; i < command_count; i++) {
        char own[ID_OBJECT_LEN + 1];

        command_id(&commands[i], own);
        if (slug ? str_eq(slug, commands[i].slug) : str_eq(id, own))
            return &commands[i];
    }
    return NULL;
}
