/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "base/fd.h"
#include "base/str.h"
#include "cli/cli.h"
#include "cli/output.h"

enum { PROXY_TEXT_MAX = 4096 };

/* "/api/v1/containers/ID/networkLAST" */
static struct err *network_path(struct cli *cli, const char *last, char **ret)
{
    autofree char *id = NULL;
    struct err *e = cli_find(cli, cli_arg(cli, 0), &id);

    if (!e)
        *ret = str_fmt("/api/v1/containers/%s/network%s", id, last);
    return e;
}

static void show(const json_t *data)
{
    static const char *const members[] = {
        "type", "proxy",   "credentials_configured", "status",           "status_message", "country", "region",
        "city", "comment", "configured_at",          "last_status_check"};
    const json_t *udp = json_object_get(json_object_get(data, "remote_status"), "udp");
    json_t *server;
    size_t i;

    if (!json_is_true(json_object_get(data, "configured"))) {
        puts("There is no network configuration: the container gets out directly.");
        return;
    }
    for (i = 0; i < ARRAY_LEN(members); i++)
        output_line(members[i], output_member(data, members[i]));
    json_array_foreach(json_object_get(data, "dns_servers"), i, server)
        output_line("dns_server", json_string_value(server));
    if (json_is_object(udp)) {
        output_line("udp_carried", output_member(udp, "carried"));
        output_line("udp_dropped", output_member(udp, "dropped"));
    }
}

static struct err *call(struct cli *cli, const char *method, const char *last, const json_t *body, json_t **ret)
{
    autofree char *path = NULL;
    struct err *e = network_path(cli, last, &path);

    return e ? e : cli_call(cli, method, path, body, ret);
}

struct err *cmd_network_get(struct cli *cli)
{
    autojson data = NULL;
    struct err *e = call(cli, "GET", "", NULL, &data);

    if (!e && cli->json)
        output_json(data);
    else if (!e)
        show(data);
    return e;
}

/* The URL from a file, or from stdin for "-": on a command line everybody on the host could read the password. */
static struct err *read_proxy(const char *file, char **ret)
{
    struct err *e = str_eq(file, "-") ? fd_read_all(STDIN_FILENO, PROXY_TEXT_MAX, ret, NULL)
                                      : fd_read_file(file, PROXY_TEXT_MAX, ret, NULL);

    if (!e)
        (*ret)[strcspn(*ret, "\r\n")] = '\0';
    return err_wrap(e, "--proxy-file");
}

struct err *cmd_network_set(struct cli *cli)
{
    static const char *const members[] = {"proxy", "country", "city", "region", "comment"};
    const char *file = cli_value(cli, "proxy-file"), *server;
    autojson body = json_pack("{s:s}", "type", cli_arg(cli, 1));
    autofree char *proxy = NULL;
    autojson data = NULL;
    struct err *e = NULL;

    for (size_t i = 0; i < ARRAY_LEN(members); i++)
        if (cli_has(cli, members[i]))
            json_object_set_new(body, members[i], json_string(cli_value(cli, members[i])));
    for (size_t i = 0; (server = cli_nth(cli, "dns", i)); i++) {
        if (i == 0)
            json_object_set_new(body, "dns_servers", json_array());
        json_array_append_new(json_object_get(body, "dns_servers"), json_string(server));
    }
    if (file && cli_has(cli, "proxy"))
        return cli_usage("give one of --proxy and --proxy-file");
    if (file)
        e = read_proxy(file, &proxy);
    if (!e && proxy)
        json_object_set_new(body, "proxy", json_string(proxy));
    if (!e)
        e = call(cli, "PUT", "", body, &data);
    if (!e && cli->json)
        output_json(data);
    else if (!e && !cli->quiet)
        show(data);
    return e;
}

static struct err *power(struct cli *cli, const char *last)
{
    autojson data = NULL;
    struct err *e = call(cli, "POST", last, NULL, &data);

    if (!e && cli->json)
        output_json(data);
    else if (!e && !cli->quiet)
        printf("%s\n", output_member(data, "status"));
    return e;
}

struct err *cmd_network_start(struct cli *cli)
{
    return power(cli, "/start");
}

struct err *cmd_network_stop(struct cli *cli)
{
    return power(cli, "/stop");
}

struct err *cmd_network_delete(struct cli *cli)
{
    return call(cli, "DELETE", "", NULL, NULL);
}
