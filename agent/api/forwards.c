/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ports of this host that lead to a container. A host port belongs to one container at most, stopped ones included, and
 * to no program of the host: that is tried by binding it, at the moment of the change.
 */
#include <errno.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "agent/containers/host_setting.h"
#include "agent/kits/kits.h"
#include "agent/network/forward.h"
#include "base/fd.h"
#include "base/str.h"

enum { FORWARDS_MAX = 64, PORT_MAX = 65535 };

struct forward_body {
    int protocol; /* index into forward_protocol_words */
    int64_t host_port, container_port;
};
static const struct json_field body_fields[] = {
    F_ENUM(struct forward_body, protocol, forward_protocol_words),
    F_INT(struct forward_body, host_port, .required = true, .min = 1, .max = PORT_MAX),
    F_INT(struct forward_body, container_port, .min = 1, .max = PORT_MAX),
};
static JSON_TABLE(body_table, NULL, body_fields);

static json_t *report(const struct container *c)
{
    const json_t *list = host_setting_get(c, "forwards");

    return json_pack("{s:s, s:o, s:i}", "container_id", c->record.id, "forwards",
                     list ? json_deep_copy(list) : json_array(), "max_forwards", FORWARDS_MAX);
}

void forwards_list(struct api_call *call)
{
    reply_ok(call->req, 200, "Forwards retrieved successfully", report(call->container));
}

/* Whether a program of this host has the port, at any address of one family. */
static bool is_bound(int family, int protocol, uint16_t port)
{
    const int yes = 1;
    struct sockaddr_in6 a6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    struct sockaddr_in a4 = {.sin_family = AF_INET, .sin_port = htons(port)};
    autofd int fd = socket(family, (protocol == 1 ? SOCK_DGRAM : SOCK_STREAM) | SOCK_CLOEXEC, 0);
    int rc;

    if (fd < 0)
        return false;  /* a host without the family */
    if (protocol == 0) /* what waits for its last packets is nobody's; a listener still counts */
        (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
    if (family == AF_INET6) {
        (void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &yes, sizeof(yes));
        rc = bind(fd, (const struct sockaddr *)&a6, sizeof(a6));
    } else {
        rc = bind(fd, (const struct sockaddr *)&a4, sizeof(a4));
    }
    return rc < 0 && errno == EADDRINUSE;
}

/* whose: "leads to the container 'x' already". */
static struct err *in_use(const struct forward_body *b, const char *whose)
{
    struct err *e = err_new(ERR_CONFLICT, "%s port %lld of the host %s", forward_protocol_words[b->protocol],
                            (long long)b->host_port, whose);

    return err_at(err_reason(e, "FORWARD_PORT_IN_USE"), "host_port");
}

static struct err *check_kit_port(const struct api_call *call, const struct forward_body *b)
{
    size_t count;
    autofree uint16_t *ports = kits_ports(call->agent, call->container, &count);

    for (size_t i = 0; b->protocol == 0 && i < count; i++)
        if (ports[i] == b->container_port)
            return err_field("container_port", "%d is a kit's: only a proxy of this host may reach it", ports[i]);
    return NULL;
}

/* *ret_same: the container has it already. */
static struct err *check(const struct api_call *call, const struct forward_body *b, bool *ret_same)
{
    const json_t *list = host_setting_get(call->container, "forwards");
    const struct container *owner;
    size_t index;
    struct err *e = check_kit_port(call, b);

    if (e)
        return e;
    owner = forward_owner(call->agent, b->protocol, b->host_port, &index);
    *ret_same = owner == call->container &&
                json_integer_value(json_object_get(json_array_get(list, index), "container_port")) == b->container_port;
    if (*ret_same)
        return NULL;
    if (owner) {
        autofree char *whose = str_fmt("leads to the container '%s' already", owner->record.name);

        return in_use(b, whose);
    }
    if (json_array_size(list) >= FORWARDS_MAX)
        return err_at(err_new(ERR_LIMIT, "A container has at most %d forwards", FORWARDS_MAX), "host_port");
    if (is_bound(AF_INET, b->protocol, (uint16_t)b->host_port) ||
        is_bound(AF_INET6, b->protocol, (uint16_t)b->host_port))
        return in_use(b, "is in use by a program of the host");
    return NULL;
}

static void change(struct api_call *call, json_t *list, const char *event, json_t *forward, int status,
                   const char *message)
{
    const struct host_change change = {.member = "forwards",
                                       .value = list,
                                       .event = event,
                                       .payload = forward,
                                       .status = status,
                                       .message = message,
                                       .report = report};

    host_setting_change(call, &change);
}

void forwards_add(struct api_call *call)
{
    const json_t *list = host_setting_get(call->container, "forwards");
    struct forward_body b = {0};
    bool same = false;
    json_t *forward, *changed;
    struct err *e = json_table_load(&body_table, call->body, &b, NULL);

    if (!e && b.container_port == 0)
        b.container_port = b.host_port;
    if (!e)
        e = check(call, &b, &same);
    if (e) {
        reply_err(call->req, e);
        return;
    }
    if (same) {
        reply_ok(call->req, 200, "Forward already exists", report(call->container));
        return;
    }
    forward = json_table_save(&body_table, &b);
    changed = list ? json_copy((json_t *)(uintptr_t)list) : json_array();
    json_array_append(changed, forward);
    change(call, changed, "container.forward.added", forward, 201, "Forward added successfully");
}

void forwards_remove(struct api_call *call)
{
    const json_t *list = host_setting_get(call->container, "forwards");
    int protocol = str_eq(call->params[1], "udp");
    json_t *changed, *forward;
    int64_t port = 0;
    size_t index = 0;

    if (!str_eq(call->params[1], forward_protocol_words[protocol]) || !str_to_i64(call->params[2], &port) ||
        forward_owner(call->agent, protocol, port, &index) != call->container) {
        reply_err(call->req,
                  err_reason(err_new(ERR_NOT_FOUND, "The container has no such forward"), "RESOURCE_NOT_FOUND"));
        return;
    }
    forward = json_incref(json_array_get(list, index));
    changed = json_copy((json_t *)(uintptr_t)list);
    json_array_remove(changed, index);
    change(call, changed, "container.forward.removed", forward, 200, "Forward removed successfully");
}
