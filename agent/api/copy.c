/* SPDX-License-Identifier: Apache-2.0 */
/* A copy of a container: on this node, or on another one (peer_copy.c). */
#include "agent/api/api.h"
#include "agent/containers/project.h"
#include "agent/containers/snapshots.h"
#include "agent/containers/ssh_key.h"
#include "agent/network/egress.h"
#include "agent/transfer/peer.h"
#include "base/str.h"

struct copy_body {
    char *id, *target_project_id, *target_server_id, *name, *ssh_public_key, *source_snapshot;
    bool copy_firewall_rules, copy_network_rules, kvm, dev_kvm;
};
static const struct json_field copy_fields[] = {
    F_STRING(struct copy_body, id, .nullable = true, .valid = str_is_object_id,
             .rule = "must be 24 lower case hex digits"),
    F_STRING(struct copy_body, target_project_id, .required = true, .valid = str_is_object_id,
             .rule = "must be 24 lower case hex digits"),
    F_STRING(struct copy_body, target_server_id, .nullable = true),
    F_STRING(struct copy_body, name, .nullable = true),
    F_STRING(struct copy_body, ssh_public_key, .nullable = true),
    F_STRING(struct copy_body, source_snapshot, .nullable = true),
    F_BOOL(struct copy_body, copy_firewall_rules),
    F_BOOL(struct copy_body, copy_network_rules),
    F_BOOL(struct copy_body, kvm),
    F_BOOL(struct copy_body, dev_kvm),
};
static JSON_TABLE(copy_table, NULL, copy_fields, .open = true);

static bool is_remote(const struct api_call *call, const struct copy_body *b)
{
    return b->target_server_id && !str_eq(b->target_server_id, call->agent->node_id) &&
           peer_known(call->agent, b->target_server_id);
}

static struct err *check_copy(const struct api_call *call, struct copy_body *b, struct snapshot **ret_snapshot)
{
    const struct container *source = call->container;
    struct err *e = api_check_new_name(&b->name);

    if (!e && b->id && agent_find(call->agent, b->id))
        e = err_reason(err_new(ERR_CONFLICT, "id: there is a container with this id"), "RESOURCE_IN_USE");
    if (!e && b->ssh_public_key)
        e = ssh_key_check("ssh_public_key", b->ssh_public_key);
    if (!e)
        e = api_check_kvm(call->body, b->kvm, b->dev_kvm);
    if (!e && !is_remote(call, b))
        e = api_check_server(call->agent, "target_server_id", b->target_server_id);
    if (!e && b->source_snapshot)
        e = snapshot_find(source, "source_snapshot", b->source_snapshot, ret_snapshot);
    if (!e)
        e = snapshot_check_present(*ret_snapshot);
    if (!e && (source->record.status == CONTAINER_CREATING || source->record.status == CONTAINER_COPYING ||
               source->record.status == CONTAINER_DELETING || source->record.status == CONTAINER_FAILED))
        e = err_reason(err_new(ERR_CONFLICT, "The source is %s", container_status_word(source)),
                       "OPERATION_STATE_CONFLICT");
    if (!e && source->op)
        e = operation_check_free(source, "copy");
    if (e || is_remote(call, b))
        return e; /* the rest is the other node's */
    e = project_check_enter(call->agent, "target_project_id", b->target_project_id);
    if (!e && b->name)
        e = api_check_new(call->agent, b->target_project_id, b->name, NULL);
    return e ? e : api_check_new(call->agent, b->target_project_id, "", b->ssh_public_key);
}

static void copy_record(const struct container *source, struct container *c, struct copy_body *b)
{
    const struct container_record *from = &source->record;
    struct container_record *to = &c->record;

    to->color = str_dup(from->color);
    to->image = str_dup(from->image);
    to->image_fingerprint = str_dup(from->image_fingerprint);
    to->base = from->base;
    to->comment = str_dup(from->comment);
    to->ssh_public_key = steal(&b->ssh_public_key);
    to->source_container_id = str_dup(from->id);
    to->ai = from->ai;
    to->hoody_kit = from->hoody_kit;
    to->dev_kit = from->dev_kit;
    to->autostart = from->autostart;
    to->ramdisk = from->ramdisk;
    if (str_eq(to->project_id, from->project_id))
        to->ramdisk_scope = from->ramdisk_scope;
    json_object_update(to->environment, from->environment);
    json_array_extend(to->realm_ids, from->realm_ids);
    json_array_extend(to->kits, from->kits);
    to->status = CONTAINER_COPYING;
    guest_new(c);
    if (b->copy_firewall_rules) {
        ruleset_unref(c->rules);
        c->rules = ruleset_ref(source->rules);
    }
}

void container_copy(struct api_call *call)
{
    struct container *source = call->container, *c = NULL;
    struct agent *a = call->agent;
    struct snapshot *snapshot = NULL; /* stays: nothing is awaited before the source is held */
    struct copy_body b = {0};
    struct operation *op;
    struct store_tx *tx;
    struct err *e = json_table_load(&copy_table, call->body, &b, NULL);

    if (!e)
        e = check_copy(call, &b, &snapshot);
    if (!e && is_remote(call, &b)) {
        peer_copy_to(call, b.target_server_id, snapshot ? snapshot->name : NULL);
        json_table_clear(&copy_table, &b);
        return;
    }
    if (!e)
        e = api_new_container(a, b.id, b.target_project_id, b.name, &c);
    if (e) {
        json_table_clear(&copy_table, &b);
        reply_err(call->req, e);
        return;
    }
    copy_record(source, c, &b);
    agent_add(a, c);
    op = operation_new(a, &op_copy, c,
                       json_pack("{s:s, s:b, s:b}", "source", source->record.id, "copy_firewall_rules",
                                 b.copy_firewall_rules, "copy_network_rules", b.copy_network_rules),
                       "user");
    if (snapshot)
        json_object_set_new(op->args, "snapshot", json_string(snapshot->name));
    op->source = source;
    tx = store_tx_new();
    record_put(tx, c); /* before what refers to it */
    if (b.copy_firewall_rules)
        record_put_rules(tx, c, c->rules);
    if (b.copy_network_rules && source->egress) {
        c->egress = egress_copy(source->egress);
        egress_put(tx, c);
        egress_event(a, tx, c, "created");
    }
    json_table_clear(&copy_table, &b);
    api_start_new(call, op, tx);
}
