/* SPDX-License-Identifier: Apache-2.0 */
/* Change a container (contract, section 2.1): what the body names is changed, the rest is kept. */
#include <stdio.h>
#include <sys/utsname.h>

#include "agent/api/api.h"
#include "agent/containers/ssh_key.h"
#include "agent/containers/update.h"
#include "agent/events/event.h"
#include "base/str.h"

struct body {
    char *name, *color, *ssh_public_key, *comment;
    bool ai, autostart, ramdisk;
    int ramdisk_scope;
    json_t *environment_vars, *realm_ids;
};
enum { NAME, COLOR, AI, AUTOSTART, RAMDISK, RAMDISK_SCOPE, ENVIRONMENT, SSH_KEY, COMMENT, REALMS };
static const struct json_field body_fields[] = {
    [NAME] = F_STRING(struct body, name),
    [COLOR] = F_STRING(struct body, color),
    [AI] = F_BOOL(struct body, ai),
    [AUTOSTART] = F_BOOL(struct body, autostart),
    [RAMDISK] = F_BOOL(struct body, ramdisk),
    [RAMDISK_SCOPE] = F_ENUM(struct body, ramdisk_scope, ramdisk_scope_words),
    [ENVIRONMENT] = F_JSON(struct body, environment_vars, .has_type = true, .type = JSON_OBJECT),
    [SSH_KEY] = F_STRING(struct body, ssh_public_key, .nullable = true),
    [COMMENT] = F_STRING(struct body, comment, .nullable = true, .min = 0, .max = 16000),
    [REALMS] = F_JSON(struct body, realm_ids, .has_type = true, .type = JSON_ARRAY),
};
/* The platform's schema allows further fields. */
static JSON_TABLE(body_table, NULL, body_fields, .open = true);

struct wanted {
    struct body body;
    uint64_t present;
};

static bool has(const struct wanted *w, int field)
{
    return w->present >> field & 1;
}

static struct err *check_name(const struct agent *a, const struct container *c, const char *name)
{
    const struct container *other = agent_find_by_name(a, c->record.project_id, name);

    if (!api_is_container_name(name))
        return err_reason(err_field("name", "must be 3..100 letters, digits, '-' and '_'"), "INVALID_CONTAINER_NAME");
    return other && other != c ? api_check_new(a, c->record.project_id, name, NULL) : NULL;
}

static struct err *check_key(const struct agent *a, const struct container *c, char *key)
{
    const struct container *other;
    struct err *e = key ? ssh_key_check("ssh_public_key", key) : NULL;

    if (e)
        return e;
    other = agent_find_by_ssh_key(a, key);
    return other && other != c ? api_check_new(a, c->record.project_id, "", key) : NULL;
}

/* A tmpfs has idmapped mounts since Linux 6.3. */
static bool can_share_ramdisks(void)
{
    struct utsname host;
    int major = 0, minor = 0;

    return uname(&host) == 0 && sscanf(host.release, "%d.%d", &major, &minor) == 2 &&
           (major > 6 || (major == 6 && minor >= 3));
}

static struct err *check(const struct api_call *call, struct wanted *w)
{
    const struct container *c = call->container;
    struct body *b = &w->body;
    struct err *e = update_check_state(c);

    if (!e && has(w, NAME))
        e = check_name(call->agent, c, b->name);
    if (!e)
        e = api_check_color("color", &b->color);
    if (!e)
        e = api_check_environment("environment_vars", b->environment_vars);
    if (!e)
        e = api_check_realms("realm_ids", b->realm_ids);
    if (!e)
        e = api_check_comment("comment", b->comment);
    if (!e && b->ramdisk_scope == RAMDISK_PROJECT && !can_share_ramdisks())
        e = err_field("ramdisk_scope", "must be container: to share a ramdisk this server needs Linux 6.3");
    return e ? e : check_key(call->agent, c, b->ssh_public_key);
}

/* Notes a field in `changed`, by its name. */
static void note(json_t *changed, const char *field)
{
    json_array_append_new(changed, json_string(field));
}

static void set_text(char **member, char **value, const char *field, json_t *changed)
{
    if (str_eq(*member, *value))
        return;
    free(*member);
    *member = steal(value);
    note(changed, field);
}

static void set_flag(bool *member, bool value, const char *field, json_t *changed)
{
    if (*member == value)
        return;
    *member = value;
    note(changed, field);
}

static void set_json(json_t **member, json_t *value, const char *field, json_t *changed)
{
    if (json_equal(*member, value))
        return;
    json_decref(*member);
    *member = json_copy(value);
    note(changed, field);
}

static void tell_key(struct agent *a, struct store_tx *tx, const struct container *c, const char *type, const char *key)
{
    autofree char *fingerprint = ssh_key_fingerprint(key);

    event_add(a, tx, type, c, json_pack("{s:s}", "fingerprint", fingerprint));
}

/* The same key again is no change, whatever its comment says. */
static void set_key(struct update *u, struct store_tx *tx, struct container *c, char **key, json_t *changed)
{
    struct container_record *r = &c->record;

    if ((!*key && !r->ssh_public_key) || ssh_key_same(*key, r->ssh_public_key))
        return;
    if (r->ssh_public_key) {
        tell_key(u->agent, tx, c, "container.ssh_key.removed", r->ssh_public_key);
        if (r->status != CONTAINER_FAILED) /* that one has no files */
            json_array_append_new(r->ssh_removed, json_string(r->ssh_public_key));
    }
    if (*key)
        tell_key(u->agent, tx, c, "container.ssh_key.added", *key);
    free(r->ssh_public_key);
    r->ssh_public_key = steal(key);
    r->ssh_installed_at = 0;
    note(changed, "ssh_public_key");
    update_part(u, c, GUEST_SSH_KEY);
}

static void tell(struct agent *a, struct store_tx *tx, const struct container *c, const char *old_name, json_t *changed)
{
    const struct container_record *r = &c->record;

    event_add(a, tx, "container.updated", c, json_pack("{s:s, s:O}", "name", r->name, "changed", changed));
    if (json_has_string(changed, "name"))
        event_add(a, tx, "container.renamed", c, json_pack("{s:s, s:s}", "from", old_name, "to", r->name));
    if (json_has_string(changed, "autostart"))
        event_add(a, tx, r->autostart ? "container.autostart_enabled" : "container.autostart_disabled", c, NULL);
    if (json_has_string(changed, "ramdisk") || json_has_string(changed, "ramdisk_scope"))
        event_add(
            a, tx, "container.resource_updated", c,
            json_pack("{s:b, s:s}", "ramdisk", r->ramdisk, "ramdisk_scope", ramdisk_scope_words[r->ramdisk_scope]));
    if (json_has_string(changed, "environment_vars"))
        update_tell_environment(a, tx, c);
}

static void set_all(struct update *u, struct store_tx *tx, struct container *c, struct wanted *w, json_t *changed)
{
    struct container_record *r = &c->record;
    struct body *b = &w->body;

    if (has(w, NAME))
        set_text(&r->name, &b->name, "name", changed);
    if (has(w, COLOR))
        set_text(&r->color, &b->color, "color", changed);
    if (has(w, COMMENT))
        set_text(&r->comment, &b->comment, "comment", changed);
    if (has(w, AI))
        set_flag(&r->ai, b->ai, "ai", changed);
    if (has(w, AUTOSTART))
        set_flag(&r->autostart, b->autostart, "autostart", changed);
    if (has(w, RAMDISK))
        set_flag(&r->ramdisk, b->ramdisk, "ramdisk", changed);
    if (has(w, REALMS))
        set_json(&r->realm_ids, b->realm_ids, "realm_ids", changed);
    if (has(w, ENVIRONMENT))
        set_json(&r->environment, b->environment_vars, "environment_vars", changed);
    if (has(w, RAMDISK_SCOPE) && r->ramdisk_scope != b->ramdisk_scope) {
        r->ramdisk_scope = b->ramdisk_scope;
        note(changed, "ramdisk_scope");
    }
    if (json_has_string(changed, "ramdisk") || json_has_string(changed, "ramdisk_scope"))
        update_part(u, c, GUEST_RAMDISK);
    if (json_has_string(changed, "environment_vars"))
        update_part(u, c, GUEST_ENVIRONMENT);
    if (has(w, SSH_KEY))
        set_key(u, tx, c, &b->ssh_public_key, changed);
}

static void reply(const struct update *u, const struct container *c)
{
    reply_ok(u->req, 200, "Container updated successfully", container_to_json(u->agent, c));
}

static void change(struct api_call *call, struct wanted *w)
{
    autofree char *old_name = str_dup(call->container->record.name);
    struct update *u = update_new(call, reply);
    struct store_tx *tx = store_tx_new();
    autojson changed = json_array();

    set_all(u, tx, call->container, w, changed);
    if (json_array_size(changed) > 0)
        tell(call->agent, tx, call->container, old_name, changed);
    update_commit(u, call->container, tx);
}

void container_update(struct api_call *call)
{
    struct wanted w = {0};
    struct err *e = json_table_load(&body_table, call->body, &w.body, &w.present);

    if (!e)
        e = check(call, &w);
    if (e)
        reply_err(call->req, e);
    else
        change(call, &w);
    json_table_clear(&body_table, &w.body);
}

struct kvm_body {
    bool kvm, dev_kvm;
};
static const struct json_field kvm_fields[] = {F_BOOL(struct kvm_body, kvm), F_BOOL(struct kvm_body, dev_kvm)};
static JSON_TABLE(kvm_table, NULL, kvm_fields);

struct err *api_check_kvm(const json_t *body, bool kvm, bool dev_kvm)
{
    if (json_object_get(body, "kvm") && json_object_get(body, "dev_kvm") && kvm != dev_kvm)
        return err_field("dev_kvm", "must not differ from kvm");
    if (kvm || dev_kvm)
        return err_reason(err_new(ERR_FORBIDDEN, "kvm: this server does not offer KVM"), "INSUFFICIENT_PERMISSIONS");
    return NULL;
}

void container_kvm(struct api_call *call)
{
    const struct container_record *r = &call->container->record;
    struct kvm_body b = {0};
    struct err *e = json_table_load(&kvm_table, call->body, &b, NULL);

    if (!e && json_object_size(call->body) == 0)
        e = err_field("kvm", "is required");
    if (!e)
        e = api_check_kvm(call->body, b.kvm, b.dev_kvm);
    if (!e)
        e = operation_check_free(call->container, "kvm");
    if (!e && r->status != CONTAINER_STOPPED)
        e = err_reason(err_new(ERR_CONFLICT, "The container must be stopped"), "OPERATION_STATE_CONFLICT");
    if (e)
        reply_err(call->req, e);
    else
        reply_ok(call->req, 200, "Container has no KVM",
                 json_pack("{s:s, s:s, s:s, s:b}", "id", r->id, "name", r->name, "status",
                           container_status_word(call->container), "kvm", 0));
}
