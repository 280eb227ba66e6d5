/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "base/str.h"
#include "cli/cli.h"
#include "cli/list.h"

/* "/api/v1/containers/ID/forwardsLAST" */
static struct err *call(struct cli *cli, const char *method, const char *last, const json_t *body, json_t **ret)
{
    autofree char *id = NULL, *path = NULL;
    struct err *e = cli_find(cli, cli_arg(cli, 0), &id);

    if (e)
        return e;
    path = str_fmt("/api/v1/containers/%s/forwards%s", id, last);
    return cli_call(cli, method, path, body, ret);
}

static void row(struct table *t, const json_t *f)
{
    table_row(t, output_member(f, "protocol"), output_member(f, "host_port"), output_member(f, "container_port"));
}

static void show(const struct cli *cli, const json_t *data)
{
    static const char *const headers[] = {"PROTOCOL", "HOST PORT", "CONTAINER PORT", NULL};
    static const struct cli_list list = {.member = "forwards",
                                         .whole = true,
                                         .headers = headers,
                                         .row = row,
                                         .empty = "No port of the host leads to it."};

    cli_list_items(cli, data, &list);
}

struct err *cmd_forward_list(struct cli *cli)
{
    autojson data = NULL;
    struct err *e = call(cli, "GET", "", NULL, &data);

    if (!e)
        show(cli, data);
    return e;
}

/* "8080", "8080:80", either with "/udp" or "/tcp" behind. */
static struct err *parse(const char *text, char protocol[4], int64_t *host_port, int64_t *port)
{
    autofree char *ports = str_dup(text);
    char *slash = strchr(ports, '/'), *colon;

    snprintf(protocol, 4, "tcp");
    if (slash) {
        *slash = '\0';
        if (!str_eq(slash + 1, "tcp") && !str_eq(slash + 1, "udp"))
            return cli_usage("'%s': the protocol is tcp or udp", text);
        snprintf(protocol, 4, "%s", slash + 1);
    }
    colon = strchr(ports, ':');
    if (colon)
        *colon = '\0';
    if (!str_to_i64(ports, host_port) || !str_to_i64(colon ? colon + 1 : ports, port))
        return cli_usage("'%s' is not HOST_PORT[:CONTAINER_PORT][/udp]", text);
    return NULL;
}

struct err *cmd_forward_add(struct cli *cli)
{
    int64_t host_port, port;
    autojson body = NULL;
    autojson data = NULL;
    char protocol[4];
    struct err *e = parse(cli_arg(cli, 1), protocol, &host_port, &port);

    if (e)
        return e;
    body = json_pack("{s:s, s:I, s:I}", "protocol", protocol, "host_port", (json_int_t)host_port, "container_port",
                     (json_int_t)port);
    e = call(cli, "POST", "", body, &data);
    if (!e)
        show(cli, data);
    return e;
}

struct err *cmd_forward_remove(struct cli *cli)
{
    int64_t host_port, port;
    autofree char *last = NULL;
    char protocol[4];
    struct err *e = parse(cli_arg(cli, 1), protocol, &host_port, &port);

    if (e)
        return e;
    last = str_fmt("/%s/%lld", protocol, (long long)host_port);
    return call(cli, "DELETE", last, NULL, NULL);
}
