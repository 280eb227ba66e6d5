/* SPDX-License-Identifier: Apache-2.0 */
#include "egress/settings.h"

#define R(kind, member, ...) F_##kind(struct relay_settings, member, __VA_ARGS__)
static const struct json_field fields[] = {
    R(STRING, container, .required = true),
    R(STRING, generation, .required = true),
    F_ENUM(struct relay_settings, kind, proxy_kind_words, .required = true),
    R(STRING, host, .required = true),
    R(INT, port, .required = true, .min = 1, .max = 65535),
    R(STRING, username, .nullable = true),
    R(STRING, password, .nullable = true),
    R(STRING, ca_file, .nullable = true),
    R(JSON, dns_servers, .required = true, .has_type = true, .type = JSON_ARRAY),
    R(JSON, forbidden, .required = true, .has_type = true, .type = JSON_ARRAY),
    R(STRING, listen4, .required = true),
    R(STRING, listen6, .nullable = true),
    R(STRING, client4, .required = true),
    R(STRING, client6, .nullable = true),
    R(INT, listen_port, .required = true, .min = 1, .max = 65535),
    R(STRING, socket, .required = true),
    R(STRING, cgroup, .required = true),
    R(STRING, cgroup_name, .required = true),
    R(INT, uid, .required = true, .min = 1, .max = UINT32_MAX - 1),
    R(INT, gid, .required = true, .min = 1, .max = UINT32_MAX - 1),
};
JSON_TABLE(relay_settings_table, "settings", fields);
