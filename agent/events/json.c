/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/events/json.h"

#include "agent/api/api.h"

static json_t *parsed(const json_t *row, const char *column)
{
    const char *text = json_string_value(json_object_get(row, column));
    json_t *j = text ? json_loads(text, 0, NULL) : NULL;

    return j ? j : json_null();
}

json_t *event_to_json(const struct agent *a, const json_t *row)
{
    return json_pack(
        "{s:O, s:O, s:O, s:O, s:s, s:O?, s:O?, s:o, s:o, s:o}", "id", json_object_get(row, "id"), "event_type",
        json_object_get(row, "event_type"), "resource_type", json_object_get(row, "resource_type"), "resource_id",
        json_object_get(row, "resource_id"), "user_id", a->node_id, "project_id", json_object_get(row, "project_id"),
        "container_id", json_object_get(row, "container_id"), "payload", parsed(row, "payload"), "realm_ids",
        parsed(row, "realm_ids"), "created_at", api_time(json_integer_value(json_object_get(row, "created_at"))));
}
