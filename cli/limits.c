/* SPDX-License-Identifier: Apache-2.0 */
#include "base/str.h"
#include "cli/cli.h"
#include "cli/output.h"

/* "100mbit", "2gbit", "64000000"; "none" is null. */
static json_t *rate_of(const char *text)
{
    static const struct {
        const char *unit;
        int64_t factor;
    } units[] = {{"kbit", 1000}, {"mbit", 1000000}, {"gbit", 1000000000}};
    autofree char *number = str_dup(text);
    size_t len = strlen(text);
    int64_t factor = 1, n;

    if (str_eq(text, "none"))
        return json_null();
    for (size_t i = 0; i < ARRAY_LEN(units) && len > 4; i++)
        if (str_eq(text + len - 4, units[i].unit)) {
            number[len - 4] = '\0';
            factor = units[i].factor;
        }
    if (!str_to_i64(number, &n) || n < 1 || n > INT64_MAX / factor)
        return NULL;
    return json_integer(n * factor);
}

static struct err *put_rate(const struct cli *cli, const char *name, json_t *body)
{
    const char *text = cli_value(cli, name);
    json_t *rate = text ? rate_of(text) : NULL;

    if (text && !rate)
        return cli_usage("--%s: '%s' is no rate such as 100mbit, nor none", name, text);
    if (rate)
        json_object_set_new(body, name, rate);
    return NULL;
}

static struct err *put_connections(const struct cli *cli, json_t *body)
{
    const char *text = cli_value(cli, "connections");
    int64_t n;

    if (!text)
        return NULL;
    if (!str_eq(text, "none") && !str_to_i64(text, &n))
        return cli_usage("--connections: '%s' is neither a number nor none", text);
    json_object_set_new(body, "connections", str_eq(text, "none") ? json_null() : json_integer(n));
    return NULL;
}

static struct err *put_disk(const struct cli *cli, json_t *body)
{
    const char *text = cli_value(cli, "disk");
    int64_t n;

    if (!text)
        return NULL;
    if (!str_eq(text, "none") && !str_to_size(text, &n))
        return cli_usage("--disk: '%s' is neither a size such as 20G nor none", text);
    json_object_set_new(body, "disk", str_eq(text, "none") ? json_null() : json_integer(n));
    return NULL;
}

static void show_rate(const char *label, const json_t *rate)
{
    autofree char *text = NULL;

    if (json_is_integer(rate))
        text = str_fmt("%g mbit/s", (double)json_integer_value(rate) / 1e6);
    output_line(label, text ? text : "-");
}

static void show_size(const char *label, const json_t *size)
{
    char text[16];

    output_line(label, json_is_integer(size) ? output_bytes(json_integer_value(size), text) : "-");
}

struct err *cmd_limits(struct cli *cli)
{
    autojson body = json_object();
    autofree char *id = NULL, *path = NULL;
    autojson data = NULL;
    struct err *e = put_rate(cli, "up", body);

    if (!e)
        e = put_rate(cli, "down", body);
    if (!e)
        e = put_connections(cli, body);
    if (!e)
        e = put_disk(cli, body);
    if (!e)
        e = cli_find(cli, cli_arg(cli, 0), &id);
    if (e)
        return e;
    path = str_fmt("/api/v1/containers/%s/limits", id);
    if (json_object_size(body))
        e = cli_call(cli, "PATCH", path, body, &data);
    else
        e = cli_call(cli, "GET", path, NULL, &data);
    if (e || cli->quiet)
        return e;
    if (cli->json) {
        output_json(data);
        return NULL;
    }
    show_rate("Up", json_object_get(data, "up"));
    show_rate("Down", json_object_get(data, "down"));
    output_line("Connections", output_member(data, "connections"));
    show_size("Disk", json_object_get(data, "disk"));
    return NULL;
}
