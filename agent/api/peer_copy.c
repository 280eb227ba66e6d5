/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A copy to another node. The source's node promises the disk and tells the other one all about the container; that one
 * checks, records and answers like for a copy of its own, and fetches the disk. So the operation, its end and its
 * events are where the copy is.
 */
#include "agent/containers/project.h"
#include "agent/containers/snapshots.h"
#include "agent/containers/ssh_key.h"
#include "agent/kits/kits.h"
#include "agent/network/egress.h"
#include "agent/transfer/peer_internal.h"
#include "base/id.h"
#include "base/log.h"
#include "base/str.h"
#include "images/image.h"

enum { CALL_S = 60, WAIT_S = 600, PROMISES_MAX = 1000 };

struct copy_body {
    char *id, *source_container_id, *project_id, *name, *ssh_public_key, *snapshot;
    char *color, *image, *image_fingerprint, *comment;
    json_t *environment_vars, *realm_ids, *snapshots, *firewall, *network;
    char *network_credentials;
    bool ai, hoody_kit, dev_kit, autostart, ramdisk;
};
#define B(kind, member, ...) F_##kind(struct copy_body, member, __VA_ARGS__)
#define ID .valid = str_is_object_id, .rule = "must be 24 lower case hex digits"
static const struct json_field copy_fields[] = {
    B(STRING, id, .required = true, ID),
    B(STRING, source_container_id, .required = true, ID),
    B(STRING, project_id, .required = true, ID),
    B(STRING, name, .nullable = true),
    B(STRING, ssh_public_key, .nullable = true),
    B(STRING, snapshot, .nullable = true, .max = 128),
    B(STRING, color, .nullable = true),
    B(STRING, image, .nullable = true, .max = 255),
    B(STRING, image_fingerprint, .nullable = true, .valid = image_fingerprint_ok, .rule = "must be 64 hex digits"),
    B(STRING, comment, .nullable = true),
    B(JSON, environment_vars, .required = true, .has_type = true, .type = JSON_OBJECT),
    B(JSON, realm_ids, .required = true, .has_type = true, .type = JSON_ARRAY),
    B(JSON, snapshots, .required = true, .has_type = true, .type = JSON_ARRAY),
    B(JSON, firewall, .nullable = true, .has_type = true, .type = JSON_OBJECT),
    B(JSON, network, .nullable = true, .has_type = true, .type = JSON_OBJECT),
    B(STRING, network_credentials, .nullable = true),
    B(BOOL, ai, .required = true),
    B(BOOL, hoody_kit, .required = true),
    B(BOOL, dev_kit, .required = true),
    B(BOOL, autostart, .required = true),
    B(BOOL, ramdisk, .required = true),
};
static JSON_TABLE(copy_table, NULL, copy_fields, .open = true);

static struct err *check(const struct api_call *call, struct copy_body *b, struct ruleset **ret_rules,
                         struct egress **ret_egress)
{
    const struct agent *a = call->agent;
    struct err *e = peer_check(call);

    if (!e && b->name && !api_is_container_name(b->name))
        e = err_reason(err_field("name", "must be 3..100 letters, digits, '-' and '_'"), "INVALID_CONTAINER_NAME");
    if (!e && b->ssh_public_key)
        e = ssh_key_check("ssh_public_key", b->ssh_public_key);
    if (!e)
        e = api_check_color("color", &b->color);
    if (!e)
        e = api_check_comment("comment", b->comment);
    if (!e)
        e = api_check_environment("environment_vars", b->environment_vars);
    if (!e)
        e = api_check_realms("realm_ids", b->realm_ids);
    if (!e)
        e = snapshots_check("snapshots", b->snapshots);
    if (!e && b->firewall)
        e = err_at(err_wrap(ruleset_from_json(b->firewall, ret_rules), "firewall"), "firewall");
    if (!e && b->network)
        e = err_at(err_wrap(egress_from_row(b->network, b->network_credentials, ret_egress), "network"), "network");
    if (!e)
        e = project_check_enter(a, "target_project_id", b->project_id);
    if (!e && b->name)
        e = api_check_new(a, b->project_id, b->name, NULL);
    return e ? e : api_check_new(a, b->project_id, "", b->ssh_public_key);
}

static void fill(const struct agent *a, struct container *c, struct copy_body *b, const char *server)
{
    struct container_record *r = &c->record;

    r->color = steal(&b->color);
    r->image = steal(&b->image);
    r->image_fingerprint = steal(&b->image_fingerprint);
    r->comment = steal(&b->comment);
    r->ssh_public_key = steal(&b->ssh_public_key);
    r->source_container_id = str_dup(b->source_container_id);
    r->source_server_id = str_dup(server);
    r->ai = b->ai;
    r->hoody_kit = b->hoody_kit;
    r->dev_kit = b->dev_kit;
    r->autostart = b->autostart;
    r->ramdisk = b->ramdisk;
    r->status = CONTAINER_COPYING;
    json_object_update(r->environment, b->environment_vars);
    json_array_extend(r->realm_ids, b->realm_ids);
    if (r->hoody_kit) {
        json_decref(r->kits);
        r->kits = kits_of_suite(a, r->image);
    }
    guest_new(c);
}

static void accepted(struct operation *op)
{
    json_t *j = container_to_json(op->agent, op->container);

    json_object_set_new(j, "copy_firewall_rules", json_boolean(json_is_true(json_object_get(op->args, "firewall"))));
    json_object_set_new(j, "copy_network_rules", json_boolean(json_is_true(json_object_get(op->args, "network"))));
    json_object_set_new(j, "operation_id", json_string(op->id));
    reply_ok(op->req, 201, "Container copy initiated successfully", j);
    op->req = NULL;
}

static void finished(struct operation *op, struct err *e)
{
    if (!op->req)
        err_free(e);
    else if (e)
        reply_host_err(op->req, e);
    else
        accepted(op);
}

static void begin(struct api_call *call, struct container *c, const struct copy_body *b, struct egress *eg)
{
    struct agent *a = call->agent;
    struct store_tx *tx = store_tx_new();
    json_t *args = json_pack("{s:s, s:s, s:O, s:b, s:b}", "server", c->record.source_server_id, "peer_source",
                             b->source_container_id, "snapshots", b->snapshots, "firewall", b->firewall != NULL,
                             "network", b->network != NULL);
    struct operation *op;

    if (b->snapshot)
        json_object_set_new(args, "snapshot", json_string(b->snapshot));
    op = operation_new(a, &op_copy, c, args, "user");
    record_put(tx, c); /* before what refers to it */
    if (b->firewall)
        record_put_rules(tx, c, c->rules);
    if (eg) {
        c->egress = eg;
        egress_put(tx, c);
        egress_event(a, tx, c, "created");
    }
    project_record(a, c->record.project_id, tx);
    op->req = call->req;
    op->accepted = query_true(call, "wait") ? NULL : accepted;
    op->done = finished;
    operation_start(op, tx);
}

/* POST /peer/copies: the other node has the source. */
void peer_copies(struct api_call *call)
{
    auto_(ruleset_unref) struct ruleset *rules = NULL;
    auto_(egress_free) struct egress *eg = NULL;
    struct copy_body b = {0};
    struct container *c = NULL;
    struct err *e = json_table_load(&copy_table, call->body, &b, NULL);

    if (!e && agent_find(call->agent, b.id))
        e = err_reason(err_new(ERR_CONFLICT, "id: there is a container with this id"), "RESOURCE_IN_USE");
    if (!e)
        e = check(call, &b, &rules, &eg);
    if (!e)
        e = api_new_container(call->agent, b.id, b.project_id, b.name, &c);
    if (e) {
        reply_err(call->req, e);
    } else {
        fill(call->agent, c, &b, http_peer(call->req)->name);
        if (rules) {
            ruleset_unref(c->rules);
            c->rules = steal(&rules);
        }
        agent_add(call->agent, c);
        begin(call, c, &b, steal(&eg));
    }
    json_table_clear(&copy_table, &b);
}

/* The sending side. */
struct errand {
    struct agent *agent;
    struct http_request *req;
    char *source, *copy;
    bool again; /* the copy was promised before */
};

static void errand_end(struct errand *x, bool refused)
{
    struct container *c = agent_find(x->agent, x->source);

    if (refused && !x->again && c && !c->gone)
        peer_promise(x->agent, c, x->copy, NULL);
    free(x->source);
    free(x->copy);
    free(x);
}

/* Where nobody knows whether the other node has heard us, the promise stays: it may be at work. */
static void on_answer(void *owner, struct err *e, json_t *result)
{
    struct errand *x = owner;
    bool unheard = e && (e->code == ERR_UNAVAILABLE || e->code == ERR_NOT_FOUND), refused = false;

    if (!e) {
        e = peer_refusal(result);
        refused = e != NULL;
    }
    if (!e)
        reply_ok(x->req, 201, "Container copy initiated successfully",
                 json_incref(json_object_get(json_object_get(result, "body"), "data")));
    else if (refused)
        reply_err(x->req, e);
    else
        reply_host_err(x->req, err_wrap(e, "the target node"));
    json_decref(result);
    errand_end(x, unheard || refused);
}

static char *asked(const struct api_call *call, const char *name)
{
    return (char *)(uintptr_t)json_string_value(json_object_get(call->body, name));
}

/* What the other node has to know; the disk it fetches. */
static json_t *describe(const struct api_call *call, const char *copy, const char *snapshot)
{
    const struct container *c = call->container;
    const struct container_record *r = &c->record;
    autojson snapshots = snapshot ? json_array() : snapshots_save(c);
    const struct copy_body b = {.id = (char *)(uintptr_t)copy,
                                .source_container_id = r->id,
                                .project_id = asked(call, "target_project_id"),
                                .name = str_eq(asked(call, "name"), "rand") ? NULL : asked(call, "name"),
                                .ssh_public_key = asked(call, "ssh_public_key"),
                                .snapshot = (char *)(uintptr_t)snapshot,
                                .color = r->color,
                                .image = r->image,
                                .image_fingerprint = r->image_fingerprint,
                                .comment = r->comment,
                                .environment_vars = r->environment,
                                .realm_ids = r->realm_ids,
                                .snapshots = snapshots,
                                .ai = r->ai,
                                .hoody_kit = r->hoody_kit,
                                .dev_kit = r->dev_kit,
                                .autostart = r->autostart,
                                .ramdisk = r->ramdisk};
    json_t *j = json_table_save(&copy_table, &b);

    if (json_is_true(json_object_get(call->body, "copy_firewall_rules")))
        json_object_set_new(j, "firewall", ruleset_to_json(c->rules));
    if (json_is_true(json_object_get(call->body, "copy_network_rules")) && c->egress)
        egress_describe(c->egress, j, "network", "network_credentials");
    return j;
}

void peer_copy_to(struct api_call *call, const char *server, const char *snapshot)
{
    const char *wanted = json_string_value(json_object_get(call->body, "id"));
    bool wait = query_true(call, "wait");
    struct errand *x;
    char id[ID_OBJECT_LEN + 1];

    if (json_object_size(call->container->record.sent_copies) >= PROMISES_MAX) {
        reply_err(call->req, err_reason(err_new(ERR_LIMIT, "The container has %d copies on other nodes", PROMISES_MAX),
                                        "SERVER_CONTAINER_LIMIT"));
        return;
    }
    id_object(id);
    x = mem_new(struct errand);
    *x = (struct errand){.agent = call->agent,
                         .req = call->req,
                         .source = str_dup(call->container->record.id),
                         .copy = str_dup(wanted ? wanted : id)};
    x->again = json_object_get(call->container->record.sent_copies, x->copy) != NULL;
    if (!x->again)
        peer_promise(call->agent, call->container, x->copy, server);
    peer_call(call->agent, server, "POST", wait ? "/api/v1/peer/copies?wait=true" : "/api/v1/peer/copies",
              describe(call, x->copy, snapshot), wait ? WAIT_S : CALL_S, x, on_answer);
}
