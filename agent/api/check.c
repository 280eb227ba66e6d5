/* SPDX-License-Identifier: Apache-2.0 */
/* Input rules that several routes share, and the making of a container's record. */
#include <ctype.h>

#include "agent/api/api.h"
#include "agent/storage/space.h"
#include "base/clock.h"
#include "base/id.h"
#include "base/str.h"

static const char name_chars[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_";

enum { ENV_KEYS_MAX = 256, ENV_KEY_MAX = 128, ENV_VALUE_MAX = 4096 };

bool api_is_container_name(const char *name)
{
    return str_is_made_of(name, name_chars, 100) && strlen(name) >= 3;
}

struct err *api_check_env_key(const char *key)
{
    if (!str_is_made_of(key, name_chars, ENV_KEY_MAX) || strchr(key, '-') || isdigit((unsigned char)key[0]))
        return err_reason(err_field("key", "must be 1..128 letters, digits and '_', not beginning with a digit"),
                          "INVALID_ENV_KEY");
    if (strncmp(key, "HOODY_", 6) == 0)
        return err_reason(err_field("key", "names beginning with HOODY_ are reserved"), "RESERVED_ENV_PREFIX");
    return NULL;
}

struct err *api_check_environment(const char *field, const json_t *environment)
{
    const char *key;
    json_t *v;

    if (json_object_size(environment) > ENV_KEYS_MAX)
        return err_field(field, "must have at most %d variables", ENV_KEYS_MAX);
    json_object_foreach((json_t *)(uintptr_t)environment, key, v)
    {
        struct err *e = api_check_env_key(key);

        if (e)
            return err_wrap(e, "%s", field);
        if (!json_is_string(v) || json_string_length(v) < 1 || json_string_length(v) > ENV_VALUE_MAX)
            return err_field(field, "%s must be a string of 1..%d characters", key, ENV_VALUE_MAX);
        if (strlen(json_string_value(v)) != json_string_length(v) || str_has_control(json_string_value(v)))
            return err_field(field, "%s must not have line breaks or control characters", key);
    }
    return NULL;
}

struct err *api_check_color(const char *field, char **color)
{
    size_t len;
    char *s = *color;

    if (!s)
        return NULL;
    s += *s == '#';
    len = strlen(s);
    if ((len != 3 && len != 6) || strspn(s, "0123456789abcdefABCDEF") != len)
        return err_field(field, "must be 3 or 6 hex digits");
    s = str_fmt("#%s", s);
    for (char *p = s; *p; p++)
        *p = (char)toupper((unsigned char)*p);
    free(*color);
    *color = s;
    return NULL;
}

struct err *api_check_realms(const char *field, const json_t *realms)
{
    const json_t *v;
    size_t i;

    json_array_foreach((json_t *)(uintptr_t)realms, i, v) if (!str_is_object_id(json_string_value(v))) return err_field(
        field, "must hold ids of 24 lower case hex digits");
    return NULL;
}

struct err *api_check_comment(const char *field, const char *comment)
{
    for (const char *p = comment; p && *p; p++)
        if (iscntrl((unsigned char)*p) && !strchr("\t\r\n", *p))
            return err_field(field, "must not have control characters");
    return NULL;
}

struct err *api_check_new(const struct agent *a, const char *project_id, const char *name, const char *ssh_key)
{
    if (agent_find_by_name(a, project_id, name))
        return err_reason(err_new(ERR_CONFLICT, "Container name already in use within the project"),
                          "CONTAINER_NAME_IN_USE");
    if (agent_find_by_ssh_key(a, ssh_key))
        return err_reason(err_new(ERR_CONFLICT, "SSH public key already in use"), "SSH_PUBLIC_KEY_IN_USE");
    return NULL;
}

/* One DNS label of a container name: lower case, '-' for '_', no '-' at the ends. */
static char *hostname_of(const char *name)
{
    char label[64];
    size_t n = 0;

    for (const char *p = name; *p && n < sizeof(label) - 1; p++) {
        char c = *p == '_' ? '-' : (char)tolower((unsigned char)*p);

        if (c != '-' || n > 0)
            label[n++] = c;
    }
    while (n > 0 && label[n - 1] == '-')
        n--;
    label[n] = '\0';
    return str_dup(n ? label : "container");
}

struct err *api_new_container(struct agent *a, const char *id, const char *project_id, const char *name,
                              struct container **ret)
{
    auto_(container_free) struct container *c = container_new();
    struct container_record *r = &c->record;
    char minted[ID_OPERATION_LEN + 1];
    struct err *e = space_check(a);

    if (!e && id && agent_find_any(a, id))
        e = err_reason(err_new(ERR_CONFLICT, "id: there is a container with this id"), "RESOURCE_IN_USE");
    if (!e)
        e = agent_free_slot(a, &r->slot);
    if (e)
        return e;
    id_object(minted);
    r->id = str_dup(id ? id : minted);
    id_operation(minted);
    r->machine_id = str_dup(minted);
    r->project_id = str_dup(project_id);
    r->name = name ? str_dup(name) : str_fmt("container-%.8s", r->id + 16);
    while (!name && agent_find_by_name(a, project_id, r->name)) {
        id_object(minted);
        free(r->name);
        r->name = str_fmt("container-%.8s", minted);
    }
    r->hostname = hostname_of(r->name);
    r->environment = json_object();
    r->realm_ids = json_array();
    r->kits = json_array();
    r->created_at = r->updated_at = clock_wall_ms();
    r->wanted_running = true;
    c->link_down = true; /* until net_up */
    *ret = steal(&c);
    return NULL;
}
