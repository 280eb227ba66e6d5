/* SPDX-License-Identifier: Apache-2.0 */
#include "base/str.h"
#include "provisioning/bundle.h"
#include "provisioning/env.h"

#define NAME_CHARS "abcdefghijklmnopqrstuvwxyz0123456789-"
#define VERSION_CHARS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.+-"
#define UNIT_CHARS NAME_CHARS "._@"
#define KIT_NAME_MAX 32
#define UNITS_MAX 64
#define SERVICES_MAX 64
#define ENVIRONMENT_MAX 64

bool manifest_is_name(const char *s)
{
    return str_is_made_of(s, NAME_CHARS, KIT_NAME_MAX) && s[0] != '-';
}

bool manifest_is_version(const char *s)
{
    return str_is_made_of(s, VERSION_CHARS, KIT_NAME_MAX) && s[0] >= '0' && s[0] <= '9';
}

/* "hoody-....service" and the like: a kit cannot take the place of a unit of the system. */
static bool is_unit(const char *s)
{
    static const char *const kinds[] = {".service", ".socket", ".timer", ".path", ".target"};
    size_t len = s ? strlen(s) : 0;

    if (!str_is_made_of(s, UNIT_CHARS, 64) || strncmp(s, "hoody-", 6) != 0 || strstr(s, "..") || strchr(s, '@'))
        return false;
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        size_t k = strlen(kinds[i]);

        if (len > k && strcmp(s + len - k, kinds[i]) == 0)
            return true;
    }
    return false;
}

static bool is_user(const char *s)
{
    return str_is_made_of(s, NAME_CHARS "_", 32) && s[0] != '-';
}

static bool is_health_path(const char *s)
{
    return s[0] == '/' && strlen(s) <= 256 && !str_has_control(s) && !strchr(s, ' ');
}

static bool is_sha256(const char *s)
{
    return strlen(s) == 64 && str_is_made_of(s, "0123456789abcdef", 64);
}

static const struct json_field manifest_fields[] = {
    F_INT(struct manifest, format, .required = true, .min = 1, .max = 1, .rule = "must be 1"),
    F_STRING(struct manifest, name, .required = true, .valid = manifest_is_name,
             .rule = "must be 1 to 32 of a-z, 0-9 and '-'"),
    F_STRING(struct manifest, version, .required = true, .valid = manifest_is_version,
             .rule = "must begin with a digit and be at most 32 letters, digits, '.', '+' and '-'"),
    F_STRING(struct manifest, description, .nullable = true, .max = 1024, .rule = "must be at most 1024 bytes"),
    F_JSON(struct manifest, payload, .required = true, .has_type = true, .type = JSON_OBJECT),
    F_JSON(struct manifest, units, .required = true, .has_type = true, .type = JSON_ARRAY),
    F_JSON(struct manifest, services, .required = true, .has_type = true, .type = JSON_ARRAY),
    F_JSON(struct manifest, environment, .nullable = true, .has_type = true, .type = JSON_OBJECT),
};
JSON_TABLE(manifest_table, "manifest", manifest_fields);

static const struct json_field service_fields[] = {
    F_STRING(struct manifest_service, slug, .required = true, .valid = manifest_is_name,
             .rule = "must be 1 to 32 of a-z, 0-9 and '-'"),
    F_INT(struct manifest_service, port, .required = true, .min = 1, .max = 65535, .rule = "must be 1 to 65535"),
    F_STRING(struct manifest_service, protocol, .required = true, .min = 1, .max = 16),
    F_STRING(struct manifest_service, unit, .required = true, .valid = is_unit, .rule = "must name a unit of the kit"),
    F_STRING(struct manifest_service, user, .nullable = true, .valid = is_user, .rule = "must be an account name"),
    F_STRING(struct manifest_service, health, .nullable = true, .valid = is_health_path, .rule = "must be a path"),
};
JSON_TABLE(manifest_service_table, "services", service_fields);

struct payload {
    char *sha256;
    int64_t size;
};
static const struct json_field payload_fields[] = {
    F_STRING(struct payload, sha256, .required = true, .valid = is_sha256, .rule = "must be 64 lower case hex digits"),
    F_INT(struct payload, size, .required = true, .min = 1, .max = BUNDLE_PAYLOAD_MAX, .rule = "must be 1 to 256 MiB"),
};
static JSON_TABLE(payload_table, "payload", payload_fields);

static struct err *check_units(const json_t *units)
{
    const json_t *unit;
    size_t i;

    if (json_array_size(units) > UNITS_MAX)
        return err_field("units", "at most %d", UNITS_MAX);
    json_array_foreach(units, i, unit)
    {
        if (!json_is_string(unit) || !is_unit(json_string_value(unit)))
            return err_field("units", "must be names such as \"hoody-x.service\"");
    }
    return NULL;
}

static bool has_unit(const json_t *units, const char *name)
{
    const json_t *unit;
    size_t i;

    json_array_foreach(units, i, unit)
    {
        if (str_eq(json_string_value(unit), name))
            return true;
    }
    return false;
}

static struct err *check_services(const json_t *services, const json_t *units)
{
    const json_t *service;
    size_t i;

    if (json_array_size(services) > SERVICES_MAX)
        return err_field("services", "at most %d", SERVICES_MAX);
    json_array_foreach(services, i, service)
    {
        struct manifest_service s = {0};
        struct err *e = json_table_load(&manifest_service_table, service, &s, NULL);

        if (e)
            return e;
        if (!str_eq(s.protocol, "http"))
            e = err_field("services.protocol", "must be \"http\"");
        else if (!has_unit(units, s.unit))
            e = err_field("services.unit", "must name a unit of the kit");
        json_table_clear(&manifest_service_table, &s);
        if (e)
            return e;
    }
    return NULL;
}

static struct err *check_environment(json_t *environment)
{
    const char *key;
    json_t *value;

    if (json_object_size(environment) > ENVIRONMENT_MAX)
        return err_field("environment", "at most %d variables", ENVIRONMENT_MAX);
    json_object_foreach(environment, key, value)
    {
        if (!env_is_key(key) || !json_is_string(value) || strlen(json_string_value(value)) > 4096 ||
            str_has_control(json_string_value(value)))
            return err_field("environment", "must be names with short texts");
    }
    return NULL;
}

struct err *manifest_load(const json_t *j, struct manifest *ret)
{
    struct payload payload = {0};
    struct err *e;

    *ret = (struct manifest){0};
    e = json_table_load(&manifest_table, j, ret, NULL);
    if (e)
        return e;
    e = json_table_load(&payload_table, ret->payload, &payload, NULL);
    json_table_clear(&payload_table, &payload);
    if (!e)
        e = check_units(ret->units);
    if (!e)
        e = check_services(ret->services, ret->units);
    if (!e)
        e = check_environment(ret->environment);
    if (e)
        json_table_clear(&manifest_table, ret);
    return e;
}
