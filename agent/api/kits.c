/* SPDX-License-Identifier: Apache-2.0 */
/* The node's kits. A bundle is named by its file in kits.dir: the next start of the node finds the same ones. */
#include "agent/kits/kits.h"
#include "agent/api/api.h"
#include "agent/events/event.h"
#include "base/str.h"

#define NAME_CHARS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.+-"
#define BUNDLE_NAME_MAX 80

static const char *text(const json_t *object, const char *member)
{
    return json_string_value(json_object_get(object, member));
}

static json_int_t count_users(const struct agent *a, const char *name, const char *version)
{
    json_int_t n = 0;

    for (size_t i = 0; i < a->container_count; i++)
        n += !a->containers[i]->record.spare &&
             str_eq(text(kits_entry(a->containers[i]->record.kits, name), "version"), version);
    return n;
}

static json_t *kit_json(const struct agent *a, const json_t *manifest)
{
    const char *name = text(manifest, "name"), *version = text(manifest, "version");

    return json_pack("{s:s, s:s, s:O?, s:O, s:O?, s:b, s:I}", "name", name, "version", version, "description",
                     json_object_get(manifest, "description"), "services", json_object_get(manifest, "services"),
                     "minimum_image", json_object_get(manifest, "minimum_image"), "in_suite",
                     str_eq(text(kits_entry(a->kits, name), "version"), version), "containers",
                     count_users(a, name, version));
}

void kits_get(struct api_call *call)
{
    const struct agent *a = call->agent;
    json_t *list = json_array(), *manifest;
    size_t i;

    json_array_foreach(a->kits_installed, i, manifest) json_array_append_new(list, kit_json(a, manifest));
    reply_ok(
        call->req, 200, "Kits retrieved successfully",
        json_pack("{s:s, s:o, s:o}", "directory", a->config->kits_dir, "suite", kits_of_suite(a, NULL), "kits", list));
}

struct change {
    struct agent *agent;
    struct http_request *req;
    json_t *manifest;
    bool removed;
};

static void on_recorded(void *owner, struct err *e)
{
    struct change *ch = owner;

    err_ignore(e); /* it is installed, or gone: only the event is missing */
    if (ch->removed)
        reply_ok(ch->req, 200, "Kit removed successfully", NULL);
    else
        reply_ok(ch->req, 201, "Kit installed successfully", kit_json(ch->agent, ch->manifest));
    json_decref(ch->manifest);
    free(ch);
}

static void tell(struct change *ch)
{
    struct store_tx *tx = store_tx_new();

    event_add_for(
        ch->agent, tx, ch->removed ? "server.kit.removed" : "server.kit.installed", "server", ch->agent->node_id, NULL,
        NULL, json_pack("{s:s, s:s}", "name", text(ch->manifest, "name"), "version", text(ch->manifest, "version")));
    agent_commit(ch->agent, tx, ch, on_recorded);
}

static void give_up(struct change *ch, struct err *e)
{
    if (e->reason && strncmp(e->reason, "KIT_", 4) == 0)
        reply_err(ch->req, e); /* the bundle's fault */
    else if (e->code == ERR_INVALID || e->code == ERR_TOO_LARGE || e->code == ERR_NOT_FOUND)
        reply_err(ch->req, err_reason(e, "KIT_INVALID"));
    else
        reply_host_err(ch->req, e);
    json_decref(ch->manifest);
    free(ch);
}

static void on_installed(void *owner, struct err *e, json_t *result)
{
    struct change *ch = owner;

    if (e) {
        give_up(ch, e);
        return;
    }
    ch->manifest = result;
    kits_add(ch->agent, result);
    tell(ch);
}

struct install_body {
    char *file;
};
static bool is_bundle_name(const char *s)
{
    size_t len = strlen(s);

    return str_is_made_of(s, NAME_CHARS, BUNDLE_NAME_MAX) && s[0] != '.' && len > 4 && str_eq(s + len - 4, ".kit");
}
static const struct json_field install_fields[] = {
    F_STRING(struct install_body, file, .required = true, .valid = is_bundle_name,
             .rule = "must be the name NAME-VERSION.kit of a file in kits.dir"),
};
static JSON_TABLE(install_table, NULL, install_fields);

void kits_install(struct api_call *call)
{
    const struct config *config = call->agent->config;
    struct job_kit_install args = {.public_key = config->kits_public_key};
    struct install_body b = {0};
    struct change *ch;
    struct err *e = json_table_load(&install_table, call->body, &b, NULL);

    if (e) {
        reply_err(call->req, e);
        return;
    }
    ch = mem_new(struct change);
    *ch = (struct change){.agent = call->agent, .req = call->req};
    args.file = str_fmt("%s/%s", config->kits_dir, b.file);
    agent_job(call->agent, JOB_KIT_INSTALL, 0, &args, 0, ch, on_installed);
    free(args.file);
    json_table_clear(&install_table, &b);
}

static void on_removed(void *owner, struct err *e, json_t *result)
{
    struct change *ch = owner;

    json_decref(result);
    if (e) {
        kits_add(ch->agent, ch->manifest);
        give_up(ch, e);
        return;
    }
    tell(ch);
}

void kits_remove(struct api_call *call)
{
    struct agent *a = call->agent;
    struct job_kit_remove args = {.name = call->params[0], .version = call->params[1], .dir = a->config->kits_dir};
    json_t *manifest = kits_manifest(a, args.name, args.version);
    const struct container *user = manifest ? kits_user(a, args.name, args.version) : NULL;
    struct change *ch;

    if (!manifest) {
        reply_err(call->req,
                  err_reason(err_new(ERR_NOT_FOUND, "Kit %.40s %.40s is not installed", args.name, args.version),
                             "KIT_NOT_FOUND"));
        return;
    }
    if (user) {
        reply_err(call->req, err_reason(err_new(ERR_CONFLICT, "Kit %s %s is in use by container %s (%s)", args.name,
                                                args.version, user->record.name, user->record.id),
                                        "RESOURCE_IN_USE"));
        return;
    }
    ch = mem_new(struct change);
    *ch = (struct change){.agent = a, .req = call->req, .manifest = json_incref(manifest), .removed = true};
    kits_drop(a, args.name, args.version); /* nobody begins to use it meanwhile */
    agent_job(a, JOB_KIT_REMOVE, 0, &args, 0, ch, on_removed);
}
