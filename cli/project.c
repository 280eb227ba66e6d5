/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "base/str.h"
#include "cli/cli.h"
#include "cli/list.h"

static struct err *project_path(struct cli *cli, char **ret)
{
    autofree char *id = NULL;
    struct err *e = cli_find_project(cli, cli_arg(cli, 0), &id);

    if (!e)
        *ret = str_fmt("/api/v1/projects/%s", id);
    return e;
}

static void list_row(struct table *t, const json_t *p)
{
    table_row(t, output_member(p, "id"), output_member(p, "alias"), output_member(p, "max_containers"),
              output_member(p, "created_at"));
}

struct err *cmd_project_list(struct cli *cli)
{
    static const char *const headers[] = {"ID", "ALIAS", "MAX CONTAINERS", "CREATED", NULL};
    static const struct cli_list list = {.member = "projects",
                                         .name = "id",
                                         .headers = headers,
                                         .row = list_row,
                                         .empty = "There are no projects: 'nodectl project create' makes one."};

    return cli_list_pages(cli, "/api/v1/projects/?sort_by=alias&sort_order=asc", &list);
}

static void show(const struct cli *cli, const json_t *p)
{
    static const struct {
        const char *label, *member;
    } rows[] = {
        {"Id", "id"},
        {"Alias", "alias"},
        {"Colour", "color"},
        {"Max containers", "max_containers"},
        {"Default", "is_default"},
        {"Created", "created_at"},
        {"Updated", "updated_at"},
    };

    if (cli->json) {
        output_json(p);
        return;
    }
    if (cli->quiet) {
        printf("%s\n", output_member(p, "id"));
        return;
    }
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        output_line(rows[i].label, output_member(p, rows[i].member));
}

/* Sends a request and shows the project that comes back. */
static struct err *call_and_show(struct cli *cli, const char *method, const char *path, const json_t *body)
{
    autojson data = NULL;
    struct err *e = cli_call(cli, method, path, body, &data);

    if (!e)
        show(cli, data);
    return e;
}

static struct err *put_options(const struct cli *cli, json_t *body)
{
    static const char *const texts[] = {"id", "alias", "color"};
    const char *max = cli_value(cli, "max-containers");
    int64_t n;

    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        if (cli_has(cli, texts[i]))
            json_object_set_new(body, texts[i], json_string(cli_value(cli, texts[i])));
    if (!max)
        return NULL;
    if (!str_eq(max, "none") && (!str_to_i64(max, &n) || n < 0))
        return cli_usage("--max-containers: '%s' is neither a number of 0 or more nor none", max);
    json_object_set_new(body, "max_containers", str_eq(max, "none") ? json_null() : json_integer(n));
    return NULL;
}

struct err *cmd_project_create(struct cli *cli)
{
    autojson body = json_pack("{s:s}", "alias", cli_arg(cli, 0));
    struct err *e = put_options(cli, body);

    return e ? e : call_and_show(cli, "POST", "/api/v1/projects/", body);
}

struct err *cmd_project_get(struct cli *cli)
{
    autofree char *path = NULL;
    struct err *e = project_path(cli, &path);

    return e ? e : call_and_show(cli, "GET", path, NULL);
}

struct err *cmd_project_update(struct cli *cli)
{
    autofree char *path = NULL;
    autojson body = json_object();
    struct err *e = put_options(cli, body);

    if (!e && json_object_size(body) == 0)
        e = cli_usage("say what to change: see 'nodectl project update --help'");
    if (!e)
        e = project_path(cli, &path);
    return e ? e : call_and_show(cli, "PATCH", path, body);
}

struct err *cmd_project_delete(struct cli *cli)
{
    autofree char *path = NULL;
    autojson data = NULL;
    struct err *e = project_path(cli, &path);

    if (!e)
        e = cli_call(cli, "DELETE", path, NULL, &data);
    if (e)
        return e;
    if (cli->json)
        output_json(data);
    else if (!cli->quiet)
        printf("%s deleted, with %s containers\n", cli_arg(cli, 0),
               output_member(json_object_get(data, "deleted"), "containers"));
    return NULL;
}

struct err *cmd_project_network(struct cli *cli)
{
    const char *to = cli_arg(cli, 1);
    bool on = str_eq(to, "on");
    autojson body = to ? json_pack("{s:b}", "inter_container", on) : NULL;
    autofree char *path = NULL, *below = NULL;
    autojson data = NULL;
    struct err *e = NULL;

    if (to && !on && !str_eq(to, "off"))
        e = cli_usage("'%s' is neither on nor off", to);
    if (!e)
        e = project_path(cli, &path);
    if (e)
        return e;
    below = str_fmt("%s/network", path);
    e = cli_call(cli, to ? "PATCH" : "GET", below, body, &data);
    if (!e && cli->json)
        output_json(data);
    else if (!e && !cli->quiet)
        output_line("Its containers reach each other", output_member(data, "inter_container"));
    return e;
}

static void stats_row(struct table *t, const json_t *c)
{
    const json_t *memory = json_object_get(json_object_get(c, "memory"), "usage");
    char bytes[16];

    table_row(t, output_member(c, "id"), output_member(c, "status"), output_member(c, "processes"),
              output_member(json_object_get(c, "cpu"), "usage_percent"),
              memory ? output_bytes(json_integer_value(memory), bytes) : NULL);
}

struct err *cmd_project_stats(struct cli *cli)
{
    static const char *const headers[] = {"CONTAINER", "STATUS", "PROCESSES", "CPU %", "MEMORY", NULL};
    static const struct cli_list list = {.member = "stats",
                                         .whole = true,
                                         .name = "id",
                                         .headers = headers,
                                         .row = stats_row,
                                         .empty = "The project has no containers."};
    autofree char *path = NULL, *below = NULL;
    struct err *e = project_path(cli, &path);

    if (e)
        return e;
    below = str_fmt("%s/stats", path);
    return cli_list(cli, below, &list);
}
