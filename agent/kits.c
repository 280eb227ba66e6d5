/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/kits.h"

json_t *kits_of_suite(const struct agent *a)
{
    json_t *list = json_array(), *manifest;
    size_t i;

    json_array_foreach(a->kits, i, manifest)
        json_array_append_new(list, json_pack("{s:O, s:O}", "name", json_object_get(manifest, "name"), "version",
                                              json_object_get(manifest, "version")));
    return list;
}

const json_t *kits_find(const struct container *c, const char *name)
{
    json_t *kit;
    size_t i;

    json_array_foreach(c->record.kits, i,
                       kit) if (name && strcmp(json_string_value(json_object_get(kit, "name")), name) == 0) return kit;
    return NULL;
}

uint16_t *kits_ports(const struct agent *a, const struct container *c, size_t *ret_count)
{
    uint16_t *ports = NULL;
    size_t n = 0, i, k;
    json_t *manifest, *service;

    json_array_foreach(a->kits, i, manifest)
    {
        if (!kits_find(c, json_string_value(json_object_get(manifest, "name"))))
            continue;
        json_array_foreach(json_object_get(manifest, "services"), k, service)
        {
            ports = mem_grow(ports, n + 1, sizeof(*ports));
            ports[n++] = (uint16_t)json_integer_value(json_object_get(service, "port"));
        }
    }
    *ret_count = n;
    return ports;
}
