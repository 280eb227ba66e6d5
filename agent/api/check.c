/* SPDX-License-Identifier: Apache-2.0 */
/* Input rules that several routes share. */
#include <ctype.h>

#include "agent/api/api.h"
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
        if (strlen(json_string_value(v)) != json_string_length(v) || !str_is_text(json_string_value(v)))
            return err_field(field, "%s must not have control characters but tabs and line breaks", key);
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
