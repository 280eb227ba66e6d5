/* SPDX-License-Identifier: Apache-2.0 */
#include "base/str.h"
#include "provisioning/bundle.h"
#include "provisioning/env.h"
#include "provisioning/unpack.h"

#define NAME_CHARS "abcdefghijklmnopqrstuvwxyz0123456789-"
#define VERSION_CHARS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.+-"
#define UNIT_CHARS NAME_CHARS "._@"
#define KIT_NAME_MAX 32
#define UNITS_MAX 64
#define SERVICES_MAX 64
#define ENVIRONMENT_MAX 64
#define DIRECTORIES_MAX 64

bool manifest_is_name(const char *s)
{
    return str_is_made_of(s, NAME_CHARS, KIT_NAME_MAX) && s[0] != '-';
}

bool manifest_is_version(const char *s)
{
    return str_is_made_of(s, VERSION_CHARS, KIT_NAME_MAX) && s[0] >= '0' && s[0] <= '9';
}

bool manifest_is_unit(const char *s)
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

static bool is_image(const char *s)
{
    const char *slash = strchr(s, '/');

    return slash && s[0] >= 'a' && s[0] <= 'z' && slash[1] && strchr(slash + 1, '/') == NULL &&
           str_is_made_of(s, NAME_CHARS "./", 64);
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
    F_JSON(struct manifest, directories, .nullable = true, .has_type = true, .type = JSON_ARRAY),
    F_STRING(struct manifest, minimum_image, .nullable = true, .valid = is_image,
             .rule = "must be an image's name such as \"debian/13\""),
};
JSON_TABLE(manifest_table, "manifest", manifest_fields);

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
        if (!json_is_string(unit) || !manifest_is_unit(json_string_value(unit)))
            return err_field("units", "must be names such as \"hoody-x.service\"");
    }
    return NULL;
}

/* Below the kit's own state directory. */
static struct err *check_directories(const json_t *directories)
{
    const json_t *path;
    size_t i;

    if (json_array_size(directories) > DIRECTORIES_MAX)
        return err_field("directories", "at most %d", DIRECTORIES_MAX);
    json_array_foreach((json_t *)(uintptr_t)directories, i, path)
    {
        const char *text = json_string_value(path);
        char clean[UNPACK_PATH_SIZE];
        struct err *e =
            text && !str_has_control(text) ? unpack_path(text, clean) : err_new(ERR_INVALID, "an entry is no path");

        if (!e && clean[0])
            continue;
        err_ignore(e);
        return err_reason(
            err_field("directories", "'%.200s' is no path below the kit's own directory", text ? text : "(no text)"),
            "KIT_PATH");
    }
    return NULL;
}

static struct err *check_services(const struct manifest *m)
{
    const json_t *service;
    size_t i;

    if (json_array_size(m->services) > SERVICES_MAX)
        return err_field("services", "at most %d", SERVICES_MAX);
    json_array_foreach(m->services, i, service)
    {
        struct manifest_service s = {0};
        struct err *e = manifest_service_load(service, m, &s);

        json_table_clear(&manifest_service_table, &s);
        if (e)
            return err_wrap(e, "service %zu", i + 1);
    }
    return NULL;
}

struct err *manifest_check_environment(const char *field, json_t *environment)
{
    const char *key;
    json_t *value;

    if (json_object_size(environment) > ENVIRONMENT_MAX)
        return err_field(field, "at most %d variables", ENVIRONMENT_MAX);
    json_object_foreach(environment, key, value)
    {
        if (!env_is_key(key) || !json_is_string(value) || strlen(json_string_value(value)) > 4096 ||
            str_has_control(json_string_value(value)))
            return err_field(field, "must be names with short texts");
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
        e = check_services(ret);
    if (!e)
        e = manifest_check_environment("environment", ret->environment);
    if (!e)
        e = check_directories(ret->directories);
    if (!e)
        e = manifest_check_clash(j, NULL);
    if (e) {
        e = err_wrap(e, "kit %s %s", ret->name, ret->version);
        json_table_clear(&manifest_table, ret);
    }
    return e;
}
