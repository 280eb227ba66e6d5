/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/load.h"

#include <stdio.h>

#include "agent/commands/command.h"
#include "agent/containers/project.h"
#include "agent/containers/share.h"
#include "agent/events/event.h"
#include "agent/images/set.h"
#include "agent/kits/rollout.h"
#include "agent/network/egress.h"
#include "agent/storage/scrub.h"
#include "base/fd.h"
#include "base/id.h"
#include "base/str.h"

static struct err *body_of(const json_t *row, json_t **ret)
{
    const char *text = json_string_value(json_object_get(row, "body"));

    *ret = text ? json_loads(text, JSON_REJECT_DUPLICATES, NULL) : NULL;
    return *ret ? NULL : err_new(ERR_INTERNAL, "the database has a damaged row");
}

static struct err *load_container(struct agent *a, const json_t *row)
{
    auto_(container_free) struct container *c = container_new();
    autojson body = NULL;
    struct err *e = body_of(row, &body);

    if (!e)
        e = json_table_load(&container_record_table, body, &c->record, NULL);
    if (!e && (c->record.slot < 1 || c->record.slot > net_plan_max_slot(&a->plan)))
        e = err_new(ERR_INTERNAL, "slot %lld is outside the address pools", (long long)c->record.slot);
    if (e)
        return err_wrap(e, "container '%s'", json_string_value(json_object_get(row, "id")));
    agent_add(a, steal(&c));
    return NULL;
}

static struct err *load_project(struct agent *a, const json_t *row)
{
    auto_(project_free) struct project *p = mem_new(struct project);
    autojson body = NULL;
    struct err *e = body_of(row, &body);

    if (!e)
        e = json_table_load(&project_table, body, p, NULL);
    if (!e)
        project_add(a, steal(&p));
    return e;
}

static struct err *load_snapshot(struct agent *a, const json_t *row)
{
    struct container *c = agent_find(a, json_string_value(json_object_get(row, "container_id")));
    struct snapshot *s = mem_new(struct snapshot);
    autojson body = NULL;
    struct err *e = body_of(row, &body);

    if (!e)
        e = json_table_load(&snapshot_table, body, s, NULL);
    if (e || !c)
        snapshot_free(s);
    else
        container_add_snapshot(c, s);
    return e;
}

static struct err *load_rules(struct agent *a, const json_t *row)
{
    struct container *c = agent_find(a, json_string_value(json_object_get(row, "container_id")));
    struct ruleset *rules = NULL;
    autojson body = NULL;
    struct err *e = body_of(row, &body);

    if (!e)
        e = ruleset_from_json(body, &rules);
    if (!e && c) {
        ruleset_unref(c->rules);
        c->rules = rules;
    }
    return e;
}

static struct err *load_egress(struct agent *a, const json_t *row)
{
    struct container *c = agent_find(a, json_string_value(json_object_get(row, "container_id")));
    struct egress *eg = NULL;
    autojson body = NULL;
    struct err *e = body_of(row, &body);

    if (!e)
        e = egress_from_row(body, json_string_value(json_object_get(row, "credentials")), &eg);
    if (!e && c)
        c->egress = steal(&eg);
    egress_free(eg);
    return e;
}

static struct err *load_share(struct agent *a, const json_t *row)
{
    auto_(share_free) struct share *s = mem_new(struct share);
    autojson body = NULL;
    struct err *e = body_of(row, &body);

    if (!e)
        e = json_table_load(&share_table, body, s, NULL);
    if (!e)
        share_add(a, steal(&s));
    return e;
}

static struct err *load_image(struct agent *a, const json_t *row)
{
    auto_(image_free) struct image *i = mem_new(struct image);
    autojson body = NULL;
    struct err *e = body_of(row, &body);

    if (!e)
        e = json_table_load(&image_table, body, i, NULL);
    if (!e)
        image_add(a, steal(&i));
    return e;
}

static struct err *each(struct agent *a, enum store_statement statement,
                        struct err *(*load)(struct agent *a, const json_t *row))
{
    autojson rows = NULL;
    struct err *e = store_query(a->store, statement, NULL, &rows);
    json_t *row;
    size_t i;

    if (e)
        return e;
    json_array_foreach(rows, i, row)
    {
        e = load(a, row);
        if (e)
            return e;
    }
    return NULL;
}

static const char *meta_value(const json_t *rows, const char *key)
{
    json_t *row;
    size_t i;

    json_array_foreach((json_t *)(uintptr_t)rows, i,
                       row) if (str_eq(json_string_value(json_object_get(row, "key")),
                                       key)) return json_string_value(json_object_get(row, "value"));
    return NULL;
}

static struct err *load_meta(struct agent *a, bool *ret_rebooted, char **ret_accepted)
{
    autofree char *boot_id = NULL;
    autojson rows = NULL;
    auto_(store_tx_free) struct store_tx *tx = store_tx_new();
    const char *known;
    struct err *e = fd_read_file("/proc/sys/kernel/random/boot_id", 64, &boot_id, NULL);

    if (!e)
        e = store_query(a->store, STORE_META_ALL, NULL, &rows);
    if (e)
        return e;
    boot_id[strcspn(boot_id, "\n")] = '\0';
    known = meta_value(rows, "boot_id");
    *ret_rebooted = known && !str_eq(known, boot_id);
    known = a->config->node_id ? a->config->node_id : meta_value(rows, "node_id");
    if (known)
        snprintf(a->node_id, sizeof(a->node_id), "%s", known);
    else
        id_object(a->node_id);
    known = meta_value(rows, "pool_id");
    snprintf(a->pool_id, sizeof(a->pool_id), "%s", known ? known : "");
    known = meta_value(rows, "generation");
    if (known)
        (void)str_to_i64(known, &a->generation);
    a->ipv6_was_off = str_eq(meta_value(rows, "ipv6"), "off");
    *ret_accepted = str_dup(meta_value(rows, "accepted"));
    store_tx_add(tx, STORE_META_PUT, json_pack("[s, s]", "node_id", a->node_id));
    a->scrub = scrub_new(a, meta_value(rows, "scrub"));
    e = store_commit(a->store, tx);
    rollout_load(a, meta_value(rows, "kit_rollout"));
    return e ? e : events_load(a, meta_value(rows, "events_history"), meta_value(rows, "events_boundary"));
}

/* Says what to do about a database that cannot be believed. */
static struct err *unusable(struct err *e)
{
    struct err *told;

    if (!e)
        return NULL;
    told =
        err_new(e->code,
                "the database cannot be used: %s; put a backup in its place, or move it away: the containers are then "
                "recognised by their records in the pool (nodectl recover)",
                err_message(e));
    err_free(e);
    return told;
}

struct err *load_open(struct agent *a, bool *ret_rebooted, char **ret_accepted)
{
    autofree char *path = str_fmt("%s/noded.db", a->config->state_dir);
    struct err *e = store_open(path, &a->store);

    if (!e)
        e = store_open_reader(path, &a->reader);
    if (!e)
        e = load_meta(a, ret_rebooted, ret_accepted);
    return unusable(e);
}

struct err *load_state(struct agent *a, json_t **ret_intents)
{
    struct err *e = each(a, STORE_IMAGE_ALL, load_image);

    if (!e)
        e = each(a, STORE_PROJECT_ALL, load_project);
    if (!e)
        e = each(a, STORE_CONTAINER_ALL, load_container);
    if (!e)
        e = each(a, STORE_SNAPSHOT_ALL, load_snapshot);
    if (!e)
        e = each(a, STORE_FIREWALL_ALL, load_rules);
    if (!e)
        e = each(a, STORE_NETWORK_ALL, load_egress);
    if (!e)
        e = each(a, STORE_SHARE_ALL, load_share);
    if (!e)
        e = projects_complete(a);
    if (!e)
        e = commands_load(a);
    if (!e)
        e = store_query(a->store, STORE_INTENT_ALL, NULL, ret_intents);
    return unusable(e);
}

struct store_tx *load_boot_seen(void)
{
    autofree char *boot_id = NULL;
    struct store_tx *tx = store_tx_new();
    struct err *e = fd_read_file("/proc/sys/kernel/random/boot_id", 64, &boot_id, NULL);

    if (!e) {
        boot_id[strcspn(boot_id, "\n")] = '\0';
        store_tx_add(tx, STORE_META_PUT, json_pack("[s, s]", "boot_id", boot_id));
    }
    err_free(e);
    return tx;
}
