/* SPDX-License-Identifier: Apache-2.0 */
/* Create and copy. A create that names an id is idempotent: the same body again gives the container that is there. */
#include <ctype.h>

#include "agent/api/api.h"
#include "agent/containers/project.h"
#include "agent/containers/ssh_key.h"
#include "agent/images/base.h"
#include "agent/images/look.h"
#include "agent/images/task.h"
#include "agent/kits/kits.h"
#include "agent/network/egress.h"
#include "agent/transfer/peer.h"
#include "agent/warm/warm.h"
#include "base/clock.h"
#include "base/str.h"
#include "images/image.h"

struct create_body {
    char *id, *server_id, *name, *color, *container_image, *ssh_public_key, *comment;
    json_t *environment_vars, *realm_ids;
    bool ai, hoody_kit, dev_kit, kvm, dev_kvm, autostart, ramdisk, cache, cache_image, prespawn, bypass_prespawn;
};
#define B(kind, member, ...) F_##kind(struct create_body, member, __VA_ARGS__)
static const struct json_field create_fields[] = {
    B(STRING, id, .nullable = true, .valid = str_is_object_id, .rule = "must be 24 lower case hex digits"),
    B(STRING, server_id, .required = true, .min = 1, .max = 64),
    B(STRING, name, .nullable = true),
    B(STRING, color, .nullable = true),
    B(STRING, container_image, .nullable = true, .min = 0, .max = 255),
    B(JSON, environment_vars, .nullable = true, .has_type = true, .type = JSON_OBJECT),
    B(STRING, ssh_public_key, .nullable = true),
    B(STRING, comment, .nullable = true, .min = 0, .max = 16000),
    B(JSON, realm_ids, .nullable = true, .has_type = true, .type = JSON_ARRAY),
    B(BOOL, ai),
    B(BOOL, hoody_kit),
    B(BOOL, dev_kit),
    B(BOOL, kvm),
    B(BOOL, dev_kvm),
    B(BOOL, autostart),
    B(BOOL, ramdisk),
    B(BOOL, cache),
    B(BOOL, cache_image),
    B(BOOL, prespawn),
    B(BOOL, bypass_prespawn),
};
/* The platform's schema allows further fields. */
static JSON_TABLE(create_table, NULL, create_fields, .open = true);

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

static struct err *check_name(char **name)
{
    if (!*name || str_eq(*name, "rand")) {
        str_set(name, NULL);
        return NULL;
    }
    if (!api_is_container_name(*name))
        return err_reason(err_field("name", "must be 3..100 letters, digits, '-' and '_'"), "INVALID_CONTAINER_NAME");
    return NULL;
}

static struct err *check_server(const struct agent *a, const char *field, const char *id)
{
    if (!id || str_eq(id, a->node_id) || str_eq(id, "self"))
        return NULL;
    return err_reason(
        err_new(ERR_NOT_FOUND, "%s: this node is server %s and has no other of that id", field, a->node_id),
        "RESOURCE_NOT_FOUND");
}

static struct err *check_image(const struct agent *a, char **image)
{
    char *canonical = image_name_canonical(str_empty(*image) ? a->config->default_image : *image);

    free(*image);
    *image = canonical;
    if (!canonical)
        return err_field("container_image", "is not an image name");
    if (image_find_by_alias(a, canonical) || image_remotes_configured(a))
        return NULL; /* what is not there is fetched */
    return err_reason(err_new(ERR_NOT_FOUND, "container_image: this server has no image '%s'", canonical),
                      "RESOURCE_NOT_FOUND");
}

static struct err *check_create(const struct agent *a, const json_t *body, struct create_body *b)
{
    struct err *e = check_name(&b->name);

    if (!e)
        e = api_check_color("color", &b->color);
    if (!e)
        e = api_check_environment("environment_vars", b->environment_vars);
    if (!e)
        e = api_check_realms("realm_ids", b->realm_ids);
    if (!e && b->ssh_public_key)
        e = ssh_key_check("ssh_public_key", b->ssh_public_key);
    if (!e)
        e = api_check_comment("comment", b->comment);
    if (!e)
        e = api_check_kvm(body, b->kvm, b->dev_kvm);
    if (!e && b->prespawn)
        e = err_reason(err_new(ERR_FORBIDDEN, "prespawn: only the system makes spare containers"),
                       "INSUFFICIENT_PERMISSIONS");
    if (!e)
        e = check_server(a, "server_id", b->server_id);
    return e ? e : check_image(a, &b->container_image);
}

static void accepted(struct operation *op)
{
    json_t *j = container_to_json(op->agent, op->container);

    if (op->kind == &op_copy) {
        json_object_set(j, "copy_firewall_rules", json_object_get(op->args, "copy_firewall_rules"));
        json_object_set(j, "copy_network_rules", json_object_get(op->args, "copy_network_rules"));
    }

    json_object_set_new(j, "operation_id", json_string(op->id));
    reply_ok(op->req, 201,
             op->kind == &op_copy ? "Container copy initiated successfully" : "Container created successfully", j);
    op->req = NULL;
}

static void finished(struct operation *op, struct err *e)
{
    claim_over(op);
    if (!op->req) {
        err_free(e); /* the client has its answer; the log and the status log have the error */
        return;
    }
    if (!e) {
        accepted(op);
        return;
    }
    if (op->stage < 0 && op->kind != &op_copy)
        e = err_reason(err_recode(e, ERR_INTERNAL), "CONTAINER_CREATE_DISPATCH_FAILED"); /* nothing of it is recorded */
    reply_host_err(op->req, e);
}

/* Answers at once with 201, or with ?wait=true when the operation is over. */
static void start_async(struct api_call *call, struct operation *op, struct store_tx *tx)
{
    project_record(call->agent, op->container->record.project_id, tx);
    op->req = call->req;
    op->accepted = query_true(call, "wait") ? NULL : accepted;
    op->done = finished;
    operation_start(op, tx);
}

/* The container that an earlier create with the same id made; a different request is a conflict. */
static bool answer_repeat(struct api_call *call, const struct create_body *b)
{
    const struct container *c = b->id ? agent_find(call->agent, b->id) : NULL;

    if (!c)
        return false;
    if (json_equal(c->record.request, call->body) && str_eq(c->record.project_id, call->params[0]))
        reply_ok(call->req, 201, "Container created successfully", container_to_json(call->agent, c));
    else
        reply_err(call->req, err_reason(err_new(ERR_CONFLICT, "id: a container with this id was created differently"),
                                        "RESOURCE_IN_USE"));
    return true;
}

static void fill(struct agent *a, struct container *c, struct create_body *b)
{
    struct container_record *r = &c->record;

    r->color = b->color ? steal(&b->color) : str_fmt("#%.6s", r->machine_id);
    for (char *p = r->color; *p; p++)
        *p = (char)toupper((unsigned char)*p);
    warm_fill(a, c, steal(&b->container_image), b->hoody_kit, b->dev_kit);
    r->ssh_public_key = steal(&b->ssh_public_key);
    r->comment = steal(&b->comment);
    if (b->environment_vars)
        json_object_update(r->environment, b->environment_vars);
    guest_new(c);
    if (b->realm_ids)
        json_array_extend(r->realm_ids, b->realm_ids);
    r->ai = b->ai;
    r->autostart = b->autostart;
    r->ramdisk = b->ramdisk;
}

/* What begins: a spare container becomes this one, else it is made. c passes over. */
static struct operation *begin(struct agent *a, struct container *c, const struct create_body *b, struct store_tx *tx)
{
    /* Without the cache, or to renew it, the remotes are asked; without remotes there is nothing else to take. */
    bool refresh = (!b->cache || b->cache_image) && image_remotes_configured(a);
    struct container *spare = b->bypass_prespawn || refresh ? NULL : warm_take(a, c);

    if (c->record.image_fingerprint)
        record_put_image(tx, image_find(a, c->record.image_fingerprint));
    if (spare)
        return claim_new(a, spare, c, tx);
    agent_add(a, c);
    return operation_new(a, &op_create, c, json_pack("{s:b}", "refresh", refresh), "user");
}

void container_create(struct api_call *call)
{
    struct create_body b = {.ai = true, .hoody_kit = true, .autostart = true, .ramdisk = true, .cache = true};
    struct agent *a = call->agent;
    struct container *c = NULL;
    struct store_tx *tx;
    struct err *e = json_table_load(&create_table, call->body, &b, NULL);

    if (!e && answer_repeat(call, &b)) {
        json_table_clear(&create_table, &b);
        return;
    }
    if (!e)
        e = check_create(a, call->body, &b);
    if (!e && !json_object_get(call->body, "dev_kit"))
        b.dev_kit = b.hoody_kit;
    if (!e)
        e = project_check_enter(a, "project_id", call->params[0]);
    if (!e && b.name)
        e = api_check_new(a, call->params[0], b.name, NULL);
    if (!e)
        e = api_check_new(a, call->params[0], "", b.ssh_public_key);
    if (!e && !call->image_looked && !image_find_by_alias(a, b.container_image)) {
        image_look(call, b.container_image, container_create);
        json_table_clear(&create_table, &b);
        return;
    }
    if (!e)
        e = api_new_container(a, b.id, call->params[0], b.name, &c);
    if (!e) {
        fill(a, c, &b);
        c->record.request = json_incref(call->body);
        c->record.status = CONTAINER_CREATING;
        tx = store_tx_new();
        start_async(call, begin(a, c, &b, tx), tx);
    }
    json_table_clear(&create_table, &b);
    if (e)
        reply_err(call->req, e);
}

static bool is_remote(const struct api_call *call, const struct copy_body *b)
{
    return b->target_server_id && !str_eq(b->target_server_id, call->agent->node_id) &&
           peer_known(call->agent, b->target_server_id);
}

static struct err *check_copy(const struct api_call *call, struct copy_body *b)
{
    const struct container *source = call->container;
    struct err *e = check_name(&b->name);

    if (!e && b->id && agent_find(call->agent, b->id))
        e = err_reason(err_new(ERR_CONFLICT, "id: there is a container with this id"), "RESOURCE_IN_USE");
    if (!e && b->ssh_public_key)
        e = ssh_key_check("ssh_public_key", b->ssh_public_key);
    if (!e)
        e = api_check_kvm(call->body, b->kvm, b->dev_kvm);
    if (!e && !is_remote(call, b))
        e = check_server(call->agent, "target_server_id", b->target_server_id);
    if (!e && b->source_snapshot && !container_find_snapshot(source, b->source_snapshot))
        e = err_reason(
            err_new(ERR_NOT_FOUND, "source_snapshot: the container has no snapshot '%.100s'", b->source_snapshot),
            "RESOURCE_NOT_FOUND");
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
    struct copy_body b = {0};
    struct operation *op;
    struct store_tx *tx;
    struct err *e = json_table_load(&copy_table, call->body, &b, NULL);

    if (!e)
        e = check_copy(call, &b);
    if (!e && is_remote(call, &b)) {
        peer_copy_to(call, b.target_server_id,
                     b.source_snapshot ? container_find_snapshot(source, b.source_snapshot)->name : NULL);
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
    if (b.source_snapshot)
        json_object_set_new(op->args, "snapshot",
                            json_string(container_find_snapshot(source, b.source_snapshot)->name));
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
    start_async(call, op, tx);
}
