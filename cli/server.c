/* SPDX-License-Identifier: Apache-2.0 */
/* The server: its commands, its figures, its images. */
#include <stdio.h>

#include "base/str.h"
#include "cli/cli.h"
#include "cli/list.h"

/* "/api/v1/servers/ID" of the node we speak to, with a tail; the caller frees it. */
static struct err *server_path(struct cli *cli, const char *tail, char **ret)
{
    autojson node = NULL;
    struct err *e = cli_call(cli, "GET", "/api/v1/node", NULL, &node);

    if (!e)
        *ret = str_fmt("/api/v1/servers/%s%s", output_member(node, "id"), tail);
    return e;
}

static struct err *get(struct cli *cli, const char *tail, json_t **ret)
{
    autofree char *path = NULL;
    struct err *e = server_path(cli, tail, &path);

    return e ? e : cli_call(cli, "GET", path, NULL, ret);
}

static void command_row(struct table *t, const json_t *c)
{
    json_t *properties = json_object_get(json_object_get(c, "parameter_schema"), "properties");

    table_row(t, output_member(c, "slug"), output_member(c, "risk_level"),
              json_object_iter_key(json_object_iter(properties)), output_member(c, "description"));
}

struct err *cmd_server_commands(struct cli *cli)
{
    static const char *const headers[] = {"SLUG", "RISK", "PARAMETERS", "DESCRIPTION", NULL};
    static const struct cli_list list = {
        .member = "commands", .name = "slug", .headers = headers, .row = command_row, .empty = "There are none."};
    autofree char *path = NULL;
    struct err *e = server_path(cli, "/available-commands", &path);

    return e ? e : cli_list(cli, path, &list);
}

/* NAME=VALUE: digits alone are a number, if they are not an id. */
static struct err *put_parameter(json_t *parameters, const char *text)
{
    autojson one = json_object();
    struct err *e = cli_put_pair(one, text);
    void *iter = json_object_iter(one);
    const char *value = e ? NULL : json_string_value(json_object_iter_value(iter));
    int64_t n;

    if (!e && !str_is_object_id(value) && str_to_i64(value, &n))
        json_object_set_new(one, json_object_iter_key(iter), json_integer(n));
    if (!e)
        json_object_update(parameters, one);
    return e;
}

static struct err *exec_body(struct cli *cli, json_t *body)
{
    const char *timeout = cli_value(cli, "timeout");
    json_t *parameters = json_object();
    struct err *e = NULL;
    int64_t seconds;

    json_object_set_new(body, "command_slug", json_string(cli_arg(cli, 0)));
    json_object_set_new(body, "parameters", parameters);
    json_object_set_new(body, "wait", json_boolean(!cli_has(cli, "no-wait")));
    for (size_t i = 1; !e && i < cli->count; i++)
        e = put_parameter(parameters, cli_arg(cli, i));
    if (!e && timeout && (!str_to_i64(timeout, &seconds) || seconds < 1 || seconds > 7200))
        e = cli_usage("--timeout: must be 1..7200 seconds");
    if (!e && timeout)
        json_object_set_new(body, "timeout", json_integer(seconds));
    return e;
}

static struct err *show_log(const struct cli *cli, const json_t *log)
{
    const char *status = json_string_value(json_object_get(log, "status"));
    const char *output = json_string_value(json_object_get(log, "output"));

    if (cli->json)
        output_json(log);
    else if (!output)
        printf("%s %s\n", output_member(log, "command_log_id"), status);
    else if (!str_eq(status, "failed"))
        printf("%s\n", output);
    return str_eq(status, "failed") ? err_new(ERR_HOST, "%s", output ? output : "the command failed") : NULL;
}

struct err *cmd_server_exec(struct cli *cli)
{
    autojson body = json_object();
    autojson data = NULL;
    autofree char *path = NULL;
    struct err *e = exec_body(cli, body);

    if (!e)
        e = server_path(cli, "/execute-command", &path);
    if (!e)
        e = cli_call(cli, "POST", path, body, &data);
    if (e && str_eq(e->reason, "CONFIRMATION_REQUIRED") && cli_has(cli, "yes")) {
        json_object_set(body, "confirmation_token", json_object_get(e->data, "confirmation_token"));
        err_free(e);
        e = cli_call(cli, "POST", path, body, &data);
    }
    return e ? e : show_log(cli, data);
}

struct err *cmd_server_log(struct cli *cli)
{
    autofree char *id = client_escape(cli_arg(cli, 0)), *tail = str_fmt("/command-logs/%s", id);
    autojson data = NULL;
    struct err *e = get(cli, tail, &data);

    return e ? e : show_log(cli, data);
}

static void line_amount(const char *label, const json_t *object)
{
    char used[16], total[16];
    autofree char *text =
        str_fmt("%s of %s", output_bytes(json_integer_value(json_object_get(object, "used_bytes")), used),
                output_bytes(json_integer_value(json_object_get(object, "total_bytes")), total));

    output_line(label, text);
}

struct err *cmd_server_runtime(struct cli *cli)
{
    autojson data = NULL;
    autofree char *load = NULL, *busy = NULL;
    struct err *e = get(cli, "/runtime", &data);
    const json_t *l = json_object_get(data, "load");

    if (e)
        return e;
    if (cli->json) {
        output_json(data);
        return NULL;
    }
    load = str_fmt("%.2f %.2f %.2f", json_number_value(json_object_get(l, "1")),
                   json_number_value(json_object_get(l, "5")), json_number_value(json_object_get(l, "15")));
    busy = str_fmt("%.1f %%", json_number_value(json_object_get(json_object_get(data, "cpu"), "busy_pct")));
    output_line("Uptime s", output_member(data, "uptime_s"));
    output_line("Cores", output_member(data, "cores"));
    output_line("Load", load);
    output_line("CPU", busy);
    line_amount("Memory", json_object_get(data, "mem"));
    line_amount("Swap", json_object_get(data, "swap"));
    line_amount("Storage", json_object_get(data, "storage"));
    return NULL;
}

static void image_row(struct table *t, const json_t *image)
{
    char size[16];

    table_row(t, output_member(image, "alias"), output_member(image, "architecture"),
              output_bytes(json_integer_value(json_object_get(image, "size")), size),
              output_member(image, "added_date"), output_member(image, "id"));
}

struct err *cmd_images(struct cli *cli)
{
    static const char *const headers[] = {"IMAGE", "ARCHITECTURE", "SIZE", "ADDED", "ID", NULL};
    static const struct cli_list list = {.member = "images",
                                         .name = "alias",
                                         .headers = headers,
                                         .row = image_row,
                                         .empty = "There are none: 'nodectl image import' brings one."};

    return cli_list(cli, "/api/v1/images/public?limit=100&sort_order=asc", &list);
}
