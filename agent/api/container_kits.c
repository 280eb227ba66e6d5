/* SPDX-License-Identifier: Apache-2.0 */
/* The kits of a container: what it has, other versions, and back. */
#include "agent/api/api.h"
#include "agent/kits/kits.h"
#include "agent/kits/upgrade.h"
#include "base/str.h"

enum { KITS_MAX = 64 };

struct kit_ref {
    char *name, *version;
};
static const struct json_field kit_ref_fields[] = {
    F_STRING(struct kit_ref, name, .required = true, .min = 1, .max = 32),
    F_STRING(struct kit_ref, version, .required = true, .min = 1, .max = 32),
};
static JSON_TABLE(kit_ref_table, "kits", kit_ref_fields);

static struct err *check_kit(const struct agent *a, const struct container *c, const struct kit_ref *ref)
{
    const json_t *manifest = kits_manifest(a, ref->name, ref->version);

    if (!manifest)
        return err_at(
            err_reason(err_new(ERR_NOT_FOUND, "Kit %s %s is not installed", ref->name, ref->version), "KIT_NOT_FOUND"),
            "kits");
    if (!kits_image_fits(manifest, c->record.image))
        return err_at(
            err_reason(err_new(ERR_WRONG_STATE, "Kit %s %s needs the image %s or newer, this is %s", ref->name,
                               ref->version, json_string_value(json_object_get(manifest, "minimum_image")),
                               c->record.image ? c->record.image : "not known"),
                       "KIT_IMAGE"),
            "kits");
    return NULL;
}

struct err *upgrade_target(const struct agent *a, const struct container *c, const json_t *kits, json_t **ret)
{
    autojson list = json_array();
    const json_t *kit;
    size_t i;

    if (!kits || json_is_null(kits)) {
        *ret = kits_of_suite(a, c->record.image);
        return NULL;
    }
    if (json_array_size(kits) > KITS_MAX)
        return err_field("kits", "at most %d", KITS_MAX);
    json_array_foreach((json_t *)(uintptr_t)kits, i, kit)
    {
        struct kit_ref ref = {0};
        struct err *e = json_table_load(&kit_ref_table, kit, &ref, NULL);

        if (!e)
            e = kits_entry(list, ref.name) ? err_field("kits", "names %s twice", ref.name) : check_kit(a, c, &ref);
        if (!e)
            json_array_append_new(list, json_table_save(&kit_ref_table, &ref));
        json_table_clear(&kit_ref_table, &ref);
        if (e)
            return e;
    }
    *ret = steal(&list);
    return NULL;
}

struct err *upgrade_check(const struct container *c)
{
    struct err *e = container_check_staying(c);

    if (!e)
        e = operation_check_free(c, "kit upgrade");
    if (e)
        return e;
    if (!c->record.hoody_kit)
        e = err_new(ERR_WRONG_STATE, "The container was made without kits");
    else if (c->record.status != CONTAINER_RUNNING && c->record.status != CONTAINER_STOPPED)
        e = err_new(ERR_WRONG_STATE, "Container is %s: its kits are changed while it is running or stopped",
                    container_status_word(c));
    return err_reason(e, "OPERATION_STATE_CONFLICT");
}

static json_t *or_null(json_t *j)
{
    return j ? json_incref(j) : json_null();
}

json_t *upgrade_report(const struct container *c)
{
    return json_pack("{s:s, s:O, s:o, s:o}", "container_id", c->record.id, "kits", c->record.kits, "previous",
                     or_null(c->record.kits_before), "services", or_null(container_is_up(c) ? c->kit_health : NULL));
}

void container_kits_get(struct api_call *call)
{
    reply_ok(call->req, 200, "Kits retrieved successfully", upgrade_report(call->container));
}

struct body {
    json_t *kits;
    bool rollback;
};
static const struct json_field body_fields[] = {
    F_JSON(struct body, kits, .nullable = true, .has_type = true, .type = JSON_ARRAY),
    F_BOOL(struct body, rollback),
};
static JSON_TABLE(body_table, NULL, body_fields);

static void done(struct operation *op, struct err *e)
{
    if (e)
        reply_host_err(op->req, e);
    else
        reply_ok(op->req, 200, "Kits changed successfully", upgrade_report(op->container));
}

static struct err *wanted(const struct api_call *call, const struct body *b, json_t **ret)
{
    const struct container *c = call->container;

    if (b->rollback && b->kits)
        return err_field("rollback", "and kits exclude each other");
    if (b->rollback && !c->record.kits_before)
        return err_reason(err_at(err_new(ERR_WRONG_STATE, "There is nothing to go back to"), "rollback"),
                          "OPERATION_STATE_CONFLICT");
    return upgrade_target(call->agent, c, b->rollback ? c->record.kits_before : b->kits, ret);
}

void container_kits_set(struct api_call *call)
{
    struct container *c = call->container;
    struct body b = {0};
    json_t *kits = NULL;
    struct err *e = json_table_load(&body_table, call->body, &b, NULL);

    if (!e)
        e = upgrade_check(c);
    if (!e)
        e = wanted(call, &b, &kits);
    json_table_clear(&body_table, &b);
    if (e) {
        reply_err(call->req, e);
        return;
    }
    if (json_equal(kits, c->record.kits)) {
        json_decref(kits);
        reply_ok(call->req, 200, "Kits unchanged", upgrade_report(c));
        return;
    }
    upgrade_start(call->agent, c, kits, "user", call->req, NULL, done);
}
