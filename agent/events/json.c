/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/events/json.h"

#include "agent/api/api.h"
#include "base/str.h"

static json_t *parsed(const json_t *row, const char *column)
{
    const char *text = json_string_value(json_object_get(row, column));
    json_t *j = text ? json_loads(text, 0, NULL) : NULL;

    return j ? j : json_null();
}

/* A sentence for tables: "container 5f...: snapshot created", and why, when something failed. */
static char *sentence(const json_t *row, const json_t *payload)
{
    const char *type = json_string_value(json_object_get(row, "event_type"));
    const char *why = json_string_value(json_object_get(json_object_get(payload, "error"), "message"));
    const char *dot = type ? strchr(type, '.') : NULL;
    autofree char *words = str_dup(dot ? dot + 1 : "");

    for (char *c = words; *c; c++)
        *c = *c == '.' || *c == '_' ? ' ' : *c;
    return str_fmt("%s %s: %s%s%s", json_string_value(json_object_get(row, "resource_type")),
                   json_string_value(json_object_get(row, "resource_id")), words, why ? ": " : "", why ? why : "");
}

json_t *event_to_json(const struct agent *a, const json_t *row)
{
    json_t *payload = parsed(row, "payload");
    autofree char *message = sentence(row, payload);

    return json_pack("{s:O, s:O, s:O, s:s, s:O, s:O, s:s, s:O?, s:O?, s:o, s:o, s:o}", "id", json_object_get(row, "id"),
                     "event_type", json_object_get(row, "event_type"), "type", json_object_get(row, "event_type"),
                     "message", message, "resource_type", json_object_get(row, "resource_type"), "resource_id",
                     json_object_get(row, "resource_id"), "user_id", a->node_id, "project_id",
                     json_object_get(row, "project_id"), "container_id", json_object_get(row, "container_id"),
                     "payload", payload, "realm_ids", parsed(row, "realm_ids"), "created_at",
                     api_time(json_integer_value(json_object_get(row, "created_at"))));
}
