/* SPDX-License-Identifier: Apache-2.0 */
/* The services of a kit: what each may say, what two of them must not have in common, and how systemd is told. */
#include "base/str.h"
#include "provisioning/bundle.h"
#include "provisioning/env.h"

#define AFTER_MAX 16
#define PORT_RANGE_MAX 64
#define SOCKET ".socket"

/* What a container's root has, by the names that systemd knows. Not the ones that no container has (lxc_config.c) nor
 * those that mean nothing outside the first user namespace. */
static const char *const capabilities[] = {
    "CAP_AUDIT_WRITE", "CAP_CHOWN",    "CAP_DAC_OVERRIDE",     "CAP_DAC_READ_SEARCH", "CAP_FOWNER",
    "CAP_FSETID",      "CAP_KILL",     "CAP_NET_BIND_SERVICE", "CAP_NET_ADMIN",       "CAP_NET_RAW",
    "CAP_SETFCAP",     "CAP_SETGID",   "CAP_SETPCAP",          "CAP_SETUID",          "CAP_SYS_ADMIN",
    "CAP_SYS_CHROOT",  "CAP_SYS_NICE", "CAP_SYS_PTRACE",       "CAP_SYS_RESOURCE",    "CAP_IPC_OWNER",
};

static bool is_user(const char *s)
{
    return str_is_made_of(s, "abcdefghijklmnopqrstuvwxyz0123456789-_", 32) && s[0] != '-';
}

static bool is_health_path(const char *s)
{
    return s[0] == '/' && strlen(s) <= 256 && !str_has_control(s) && !strchr(s, ' ');
}

static bool is_way(const char *s)
{
    return str_eq(s, "restart") || str_eq(s, "reload") || str_eq(s, "live");
}

static const struct json_field service_fields[] = {
    F_STRING(struct manifest_service, slug, .required = true, .valid = manifest_is_name,
             .rule = "must be 1 to 32 of a-z, 0-9 and '-'"),
    F_INT(struct manifest_service, port, .required = true, .min = 1, .max = 65535, .rule = "must be 1 to 65535"),
    F_INT(struct manifest_service, port_last, .nullable = true, .min = 1, .max = 65535, .rule = "must be 1 to 65535"),
    F_STRING(struct manifest_service, protocol, .required = true, .min = 1, .max = 16),
    F_STRING(struct manifest_service, unit, .required = true, .valid = manifest_is_unit,
             .rule = "must name a unit of the kit"),
    F_STRING(struct manifest_service, user, .nullable = true, .valid = is_user, .rule = "must be an account name"),
    F_STRING(struct manifest_service, health, .nullable = true, .valid = is_health_path, .rule = "must be a path"),
    F_JSON(struct manifest_service, environment, .nullable = true, .has_type = true, .type = JSON_OBJECT),
    F_JSON(struct manifest_service, capabilities, .nullable = true, .has_type = true, .type = JSON_ARRAY),
    F_STRING(struct manifest_service, identity, .nullable = true, .valid = is_way,
             .rule = "must be restart, reload or live"),
    F_JSON(struct manifest_service, after, .nullable = true, .has_type = true, .type = JSON_ARRAY),
};
JSON_TABLE(manifest_service_table, "services", service_fields);

static bool is_service_unit(const char *unit)
{
    size_t len = strlen(unit), k = strlen(".service");

    return len > k && str_eq(unit + len - k, ".service");
}

static bool is_capability(const char *s)
{
    for (size_t i = 0; s && i < ARRAY_LEN(capabilities); i++)
        if (str_eq(capabilities[i], s))
            return true;
    return false;
}

static struct err *check_capabilities(const json_t *list)
{
    const json_t *v;
    size_t i;

    json_array_foreach((json_t *)(uintptr_t)list, i, v)
    {
        if (!is_capability(json_string_value(v)))
            return err_field("services.capabilities", "'%.40s' is none that a container has",
                             json_is_string(v) ? json_string_value(v) : "(no text)");
    }
    return json_array_size(list) > ARRAY_LEN(capabilities) ? err_field("services.capabilities", "names one twice")
                                                           : NULL;
}

static struct err *check_after(const json_t *list)
{
    const json_t *v;
    size_t i;

    if (json_array_size(list) > AFTER_MAX)
        return err_field("services.after", "at most %d", AFTER_MAX);
    json_array_foreach((json_t *)(uintptr_t)list, i, v)
    {
        if (!json_is_string(v) || !manifest_is_unit(json_string_value(v)))
            return err_field("services.after", "must be names of units such as \"hoody-x.service\"");
    }
    return NULL;
}

static struct err *check(const struct manifest_service *s, const struct manifest *m)
{
    struct err *e;

    if (!str_eq(s->protocol, "http"))
        return err_field("services.protocol", "must be \"http\"");
    if (!json_has_string(m->units, s->unit))
        return err_field("services.unit", "'%s' is none of the kit's units", s->unit);
    if (s->port_last && (s->port_last < s->port || s->port_last - s->port >= PORT_RANGE_MAX))
        return err_field("services.port_last", "must be at least port, and a range has at most %d", PORT_RANGE_MAX);
    if ((s->environment || s->capabilities) && !is_service_unit(s->unit))
        return err_field("services.unit", "only a .service has environment or capabilities");
    e = manifest_check_environment("services.environment", s->environment);
    if (!e)
        e = check_capabilities(s->capabilities);
    return e ? e : check_after(s->after);
}

struct err *manifest_service_load(const json_t *j, const struct manifest *m, struct manifest_service *ret)
{
    struct err *e = json_table_load(&manifest_service_table, j, ret, NULL);

    if (!e)
        e = check(ret, m);
    if (e)
        json_table_clear(&manifest_service_table, ret);
    return e;
}

static const char *text(const json_t *object, const char *member)
{
    return json_string_value(json_object_get(object, member));
}

static json_int_t port_last(const json_t *service)
{
    json_int_t last = json_integer_value(json_object_get(service, "port_last"));

    return last ? last : json_integer_value(json_object_get(service, "port"));
}

static struct err *compare(const json_t *s, const json_t *t, const json_t *other)
{
    json_int_t first = json_integer_value(json_object_get(s, "port"));
    json_int_t begin = json_integer_value(json_object_get(t, "port"));
    struct err *e = NULL;

    if (first <= port_last(t) && begin <= port_last(s))
        e = err_at(err_new(ERR_CONFLICT, "services.port: %lld of '%s' is a port of '%s' of kit %s %s",
                           (long long)MAX(first, begin), text(s, "slug"), text(t, "slug"), text(other, "name"),
                           text(other, "version")),
                   "services.port");
    else if (str_eq(text(s, "slug"), text(t, "slug")))
        e = err_at(err_new(ERR_CONFLICT, "services.slug: '%s' is a service of kit %s %s", text(s, "slug"),
                           text(other, "name"), text(other, "version")),
                   "services.slug");
    return err_reason(e, "KIT_CLASH");
}

static struct err *compare_units(const json_t *manifest, const json_t *other)
{
    const json_t *unit;
    size_t i;

    json_array_foreach(json_object_get(manifest, "units"), i, unit)
    {
        if (json_has_string(json_object_get(other, "units"), json_string_value(unit)))
            return err_reason(err_at(err_new(ERR_CONFLICT, "units: '%s' is a unit of kit %s %s",
                                             json_string_value(unit), text(other, "name"), text(other, "version")),
                                     "units"),
                              "KIT_CLASH");
    }
    return NULL;
}

struct err *manifest_check_clash(const json_t *manifest, const json_t *other)
{
    const json_t *mine = json_object_get(manifest, "services"), *theirs = json_object_get(other, "services");
    const json_t *s, *t;
    size_t i, k;

    if (!other) {
        other = manifest;
        theirs = mine;
    }
    json_array_foreach((json_t *)(uintptr_t)mine, i, s)
    {
        json_array_foreach((json_t *)(uintptr_t)theirs, k, t)
        {
            struct err *e = other != manifest || i < k ? compare(s, t, other) : NULL;

            if (e)
                return e;
        }
    }
    return other == manifest ? NULL : compare_units(manifest, other);
}

/* What a service says of its unit, in a drop-in of it or to a claim. */
static const char *const of_units[] = {"user", "environment", "capabilities", "after", "identity"};

static struct err *compare_said(const json_t *s, const json_t *t)
{
    for (size_t i = 0; i < ARRAY_LEN(of_units); i++) {
        const json_t *one = json_object_get(s, of_units[i]), *other = json_object_get(t, of_units[i]);
        bool none = (!one || json_is_null(one)) && (!other || json_is_null(other));
        autofree char *field = str_fmt("services.%s", of_units[i]);

        if (!none && !json_equal(one, other))
            return err_field(field, "'%s' and '%s' are of one unit, and say different things of it", text(s, "slug"),
                             text(t, "slug"));
    }
    return NULL;
}

struct err *manifest_check_shared_units(const struct manifest *m)
{
    const json_t *s, *t;
    size_t i, k;

    json_array_foreach(m->services, i, s)
    {
        json_array_foreach(m->services, k, t)
        {
            struct err *e = i < k && str_eq(text(s, "unit"), text(t, "unit")) ? compare_said(s, t) : NULL;

            if (e)
                return e;
        }
    }
    return NULL;
}

char *manifest_answering_unit(const char *unit)
{
    size_t len = strlen(unit), k = strlen(SOCKET);

    return len > k && str_eq(unit + len - k, SOCKET) ? str_fmt("%.*s.service", (int)(len - k), unit) : str_dup(unit);
}

static void write_list(FILE *out, const char *setting, const json_t *list)
{
    const json_t *v;
    size_t i;

    fprintf(out, "%s=", setting);
    json_array_foreach((json_t *)(uintptr_t)list, i, v) fprintf(out, "%s%s", i ? " " : "", json_string_value(v));
    fputc('\n', out);
}

char *manifest_render_dropin(const struct manifest_service *s)
{
    char *ret = NULL;
    size_t size = 0;
    FILE *out;

    if (!json_object_size(s->environment) && !s->capabilities && !json_array_size(s->after))
        return NULL;
    out = open_memstream(&ret, &size);
    if (!out)
        abort();
    fprintf(out, "# What the kit's manifest says of this service.\n");
    if (json_array_size(s->after)) {
        fprintf(out, "[Unit]\n");
        write_list(out, "After", s->after);
    }
    if (is_service_unit(s->unit)) {
        fprintf(out, "[Service]\n");
        env_write_settings(out, "Environment", s->environment);
        if (s->capabilities)
            write_list(out, "CapabilityBoundingSet", s->capabilities);
        if (s->user && s->capabilities)
            write_list(out, "AmbientCapabilities", s->capabilities);
    }
    if (fclose(out) != 0)
        abort();
    return ret;
}
