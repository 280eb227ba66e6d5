/* SPDX-License-Identifier: Apache-2.0 */
/* A create that names an id is idempotent: the same body again gives the container that is there. */
#include <ctype.h>

#include "agent/api/api.h"
#include "agent/containers/project.h"
#include "agent/containers/ssh_key.h"
#include "agent/images/base.h"
#include "agent/images/look.h"
#include "agent/images/task.h"
#include "agent/warm/warm.h"
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
    struct err *e = api_check_new_name(&b->name);

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
        e = api_check_server(a, "server_id", b->server_id);
    return e ? e : check_image(a, &b->container_image);
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

/* What begins: a spare container becomes this one, else it is made. c is taken over. */
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
        api_start_new(call, begin(a, c, &b, tx), tx);
    }
    json_table_clear(&create_table, &b);
    if (e)
        reply_err(call->req, e);
}
