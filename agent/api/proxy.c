/* SPDX-License-Identifier: Apache-2.0 */
/* Which containers are proxies. For the operator only: such a container can name any address as its client's. */
#include "agent/containers/proxy.h"
#include "agent/containers/host_setting.h"
#include "agent/operations/operation.h"

struct body {
    bool enabled;
};
static const struct json_field body_fields[] = {F_BOOL(struct body, enabled, .required = true)};
static JSON_TABLE(body_table, NULL, body_fields);

bool proxy_is(const struct container *c)
{
    return json_is_true(host_setting_get(c, "proxy"));
}

static json_t *report(const struct container *c)
{
    return json_pack("{s:s, s:b}", "container_id", c->record.id, "enabled", proxy_is(c));
}

void proxy_get(struct api_call *call)
{
    reply_ok(call->req, 200, "Proxy setting retrieved successfully", report(call->container));
}

static struct err *check_count(const struct agent *a)
{
    int count = 0;

    for (size_t i = 0; i < a->container_count; i++)
        count += proxy_is(a->containers[i]);
    if (count < NF_PROXIES_MAX)
        return NULL;
    return err_at(err_new(ERR_LIMIT, "This server has at most %d proxies", NF_PROXIES_MAX), "enabled");
}

void proxy_set(struct api_call *call)
{
    struct host_change change = {
        .member = "proxy", .status = 200, .message = "Proxy setting updated successfully", .report = report};
    struct container *c = call->container;
    struct body b = {0};
    struct err *e = json_table_load(&body_table, call->body, &b, NULL);

    if (!e && b.enabled && !proxy_is(c))
        e = check_count(call->agent);
    if (e) {
        reply_err(call->req, e);
        return;
    }
    if (b.enabled == proxy_is(c)) {
        reply_ok(call->req, 200, "Proxy setting unchanged", report(c));
        return;
    }
    change.value = b.enabled ? json_true() : NULL;
    change.event = b.enabled ? "container.proxy.enabled" : "container.proxy.disabled";
    change.payload = json_object();
    host_setting_change(call, &change);
}
