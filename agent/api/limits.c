/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/containers/limits.h"
#include "agent/containers/host_setting.h"
#include "agent/events/event.h"
#include "agent/operations/operation.h"

#define RATE_MIN 1000000
#define RATE_MAX INT64_C(100000000000)
#define CONNECTIONS_MAX 1000000

#define DISK_MIN (INT64_C(16) << 20)
#define DISK_MAX (INT64_C(1) << 60)

struct body {
    int64_t up, down, connections, disk;
};
static const struct json_field body_fields[] = {
    F_INT(struct body, up, .nullable = true, .min = RATE_MIN, .max = RATE_MAX),
    F_INT(struct body, down, .nullable = true, .min = RATE_MIN, .max = RATE_MAX),
    F_INT(struct body, connections, .nullable = true, .min = 1, .max = CONNECTIONS_MAX),
    F_INT(struct body, disk, .nullable = true, .min = DISK_MIN, .max = DISK_MAX),
};
static JSON_TABLE(body_table, NULL, body_fields);

static const json_t *limit(const struct container *c, const char *name)
{
    return json_object_get(host_setting_get(c, "limits"), name);
}

struct nf_limits limits_of(const struct container *c)
{
    return (struct nf_limits){.up = (uint64_t)json_integer_value(limit(c, "up")) / 8,
                              .down = (uint64_t)json_integer_value(limit(c, "down")) / 8,
                              .connections = (uint32_t)json_integer_value(limit(c, "connections"))};
}

int64_t limits_disk(const struct container *c)
{
    return json_integer_value(limit(c, "disk"));
}

/* Null for what has no limit. */
static json_t *all_of(const json_t *limits)
{
    json_t *j = json_object();

    for (size_t i = 0; i < ARRAY_LEN(body_fields); i++) {
        json_t *v = json_object_get(limits, body_fields[i].name);

        json_object_set_new(j, body_fields[i].name, v ? json_incref(v) : json_null());
    }
    return j;
}

static json_t *report(const struct container *c)
{
    json_t *j = all_of(host_setting_get(c, "limits"));

    json_object_set_new(j, "container_id", json_string(c->record.id));
    return j;
}

/* wanted: NULL or an object of limits; is taken over. */
static void change(struct api_call *call, json_t *wanted)
{
    struct container *c = call->container;
    const json_t *before = host_setting_get(c, "limits");
    struct host_change change = {.member = "limits",
                                 .value = json_object_size(wanted) ? wanted : NULL,
                                 .event = "container.limits.updated",
                                 .status = 200,
                                 .message = "Limits updated successfully",
                                 .report = report};

    if (change.value ? json_equal(change.value, before) : !before) {
        reply_ok(call->req, 200, "Limits unchanged", report(c));
        json_decref(wanted);
        return;
    }
    change.payload = all_of(wanted);
    if (!change.value)
        json_decref(wanted);
    host_setting_change(call, &change);
}

void limits_get(struct api_call *call)
{
    reply_ok(call->req, 200, "Limits retrieved successfully", report(call->container));
}

/* What the body does not name has no limit after a PUT, and the one it had after a PATCH. */
void limits_set(struct api_call *call)
{
    const json_t *before = host_setting_get(call->container, "limits");
    struct body b = {0};
    json_t *wanted;
    struct err *e =
        call->body ? json_table_load(&body_table, call->body, &b, NULL) : err_field("body", "must be a JSON object");

    if (!e && b.disk && !call->agent->disk_quota)
        e = err_field("disk", "cannot be limited: that takes btrfs simple quotas (Linux 6.7), which this pool has not");
    if (e) {
        reply_err(call->req, e);
        return;
    }
    wanted = call->verb == PATCH && before ? json_copy((json_t *)(uintptr_t)before) : json_object();
    for (size_t i = 0; i < ARRAY_LEN(body_fields); i++) {
        json_t *v = json_object_get(call->body, body_fields[i].name);

        if (json_is_null(v))
            json_object_del(wanted, body_fields[i].name);
        else if (v)
            json_object_set(wanted, body_fields[i].name, v);
    }
    change(call, wanted);
}

void limits_delete(struct api_call *call)
{
    change(call, NULL);
}
