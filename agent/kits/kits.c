/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/kits/kits.h"

#include "base/str.h"

static const char *name_of(const json_t *kit)
{
    return json_string_value(json_object_get(kit, "name"));
}

static const char *version_of(const json_t *kit)
{
    return json_string_value(json_object_get(kit, "version"));
}

const json_t *kits_entry(const json_t *kits, const char *name)
{
    json_t *kit;
    size_t i;

    json_array_foreach((json_t *)(uintptr_t)kits, i, kit) if (name && str_eq(name_of(kit), name)) return kit;
    return NULL;
}

/* How kits.enabled names a kit: NULL, not at all; "", without a version; else the version. */
static const char *enabled_version(const struct config *config, const char *name)
{
    size_t len = strlen(name);

    if (!config->kits_enabled || !config->kits_enabled[0])
        return "";
    for (char **p = config->kits_enabled; *p; p++)
        if (strncmp(*p, name, len) == 0 && ((*p)[len] == '\0' || (*p)[len] == '='))
            return (*p)[len] ? *p + len + 1 : "";
    return NULL;
}

static void choose(struct agent *a)
{
    json_t *manifest;
    size_t i;

    json_array_clear(a->kits);
    json_array_foreach(a->kits_installed, i, manifest)
    {
        const char *wanted = enabled_version(a->config, name_of(manifest));
        json_t *have = (json_t *)(uintptr_t)kits_entry(a->kits, name_of(manifest));
        size_t at = 0;

        if (!wanted || (*wanted && !str_eq(wanted, version_of(manifest))))
            continue;
        if (!have)
            json_array_append(a->kits, manifest);
        else if (strverscmp(version_of(have), version_of(manifest)) < 0) {
            while (json_array_get(a->kits, at) != have)
                at++;
            json_array_set(a->kits, at, manifest);
        }
    }
    a->kits_revision++;
    a->routes_revision++;
}

void kits_load(struct agent *a, json_t *manifests)
{
    json_decref(a->kits_installed);
    a->kits_installed = manifests;
    choose(a);
}

json_t *kits_manifest(const struct agent *a, const char *name, const char *version)
{
    json_t *manifest;
    size_t i;

    json_array_foreach(a->kits_installed, i, manifest)
    {
        if (str_eq(name_of(manifest), name) && str_eq(version_of(manifest), version))
            return manifest;
    }
    return NULL;
}

void kits_add(struct agent *a, json_t *manifest)
{
    if (!kits_manifest(a, name_of(manifest), version_of(manifest)))
        json_array_append(a->kits_installed, manifest);
    choose(a);
}

void kits_drop(struct agent *a, const char *name, const char *version)
{
    const json_t *manifest = kits_manifest(a, name, version);

    for (size_t i = 0; manifest && i < json_array_size(a->kits_installed); i++)
        if (json_array_get(a->kits_installed, i) == manifest) {
            json_array_remove(a->kits_installed, i);
            break;
        }
    choose(a);
}

bool kits_image_fits(const json_t *manifest, const char *image)
{
    const char *least = json_string_value(json_object_get(manifest, "minimum_image"));
    const char *slash = least ? strchr(least, '/') : NULL;

    if (!slash)
        return true;
    return image && strncmp(image, least, (size_t)(slash - least) + 1) == 0 &&
           strverscmp(image + (slash - least) + 1, slash + 1) >= 0;
}

json_t *kits_of_suite(const struct agent *a, const char *image)
{
    json_t *list = json_array(), *manifest;
    size_t i;

    json_array_foreach(a->kits, i, manifest)
    {
        if (!image || kits_image_fits(manifest, image))
            json_array_append_new(list, json_pack("{s:O, s:O}", "name", json_object_get(manifest, "name"), "version",
                                                  json_object_get(manifest, "version")));
    }
    return list;
}

static bool has(const json_t *kits, const char *name, const char *version)
{
    const json_t *kit = kits_entry(kits, name);

    return kit && str_eq(version_of(kit), version);
}

const struct container *kits_user(const struct agent *a, const char *name, const char *version)
{
    for (size_t i = 0; i < a->container_count; i++) {
        const struct container *c = a->containers[i];

        if (c->record.spare)
            continue; /* it will be replaced */
        if (has(c->record.kits, name, version) || has(c->kits_next, name, version))
            return c;
    }
    return NULL;
}

static void add_ports(const struct agent *a, const json_t *kits, uint16_t **ports, size_t *n)
{
    json_t *kit, *service;
    size_t i, k;

    json_array_foreach((json_t *)(uintptr_t)kits, i, kit)
    {
        const json_t *manifest = kits_manifest(a, name_of(kit), version_of(kit));

        json_array_foreach(json_object_get(manifest, "services"), k, service)
        {
            json_int_t port = json_integer_value(json_object_get(service, "port"));
            json_int_t last = json_integer_value(json_object_get(service, "port_last"));

            do {
                *ports = mem_grow(*ports, *n + 1, sizeof(**ports));
                (*ports)[(*n)++] = (uint16_t)port;
            } while (++port <= last);
        }
    }
}

static int by_number(const void *a, const void *b)
{
    return (int)*(const uint16_t *)a - (int)*(const uint16_t *)b;
}

uint16_t *kits_ports(const struct agent *a, const struct container *c, size_t *ret_count)
{
    uint16_t *ports = NULL;
    size_t n = 0, kept = 0;

    add_ports(a, c->record.kits, &ports, &n);
    add_ports(a, c->kits_next, &ports, &n);
    if (n)
        qsort(ports, n, sizeof(*ports), by_number);
    for (size_t i = 0; i < n; i++)
        if (!kept || ports[kept - 1] != ports[i])
            ports[kept++] = ports[i];
    *ret_count = kept;
    return ports;
}
