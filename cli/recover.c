/* SPDX-License-Identifier: Apache-2.0 */
/* What does not agree between the database and the pool, and what to do about it. */
#include <stdio.h>

#include "base/str.h"
#include "cli/cli.h"
#include "cli/list.h"

static void finding_row(struct table *t, const json_t *f)
{
    table_row(t, output_member(f, "slot"), output_member(f, "verdict"), output_member(f, "container_id"),
              output_member(f, "name"), json_is_true(json_object_get(f, "running")) ? "running" : "stopped",
              json_is_true(json_object_get(f, "disk")) ? "yes" : "no", output_member(f, "snapshots"));
}

static void show_side(const char *name, const json_t *side)
{
    const char *id = json_string_value(json_object_get(side, "pool_id"));
    autofree char *text = str_fmt("%s, pool %s, generation %lld", output_member(side, "path"), id ? id : "not known",
                                  (long long)json_integer_value(json_object_get(side, "generation")));

    output_line(name, text);
}

static void show_report(const json_t *data)
{
    const char *remedy = json_string_value(json_object_get(data, "remedy"));

    output_line("Held", json_is_true(json_object_get(data, "held")) ? output_member(data, "reason") : "no");
    output_line("Because", output_member(data, "message"));
    if (remedy)
        output_line("What to do", remedy);
    else if (json_array_size(json_object_get(data, "containers")) > 0)
        output_line("What to do", "\"nodectl recover adopt\" makes containers of the disks that no row knows");
    show_side("Database", json_object_get(data, "database"));
    show_side("Pool", json_object_get(data, "pool"));
    puts("");
}

struct err *cmd_recover(struct cli *cli)
{
    static const char *const headers[] = {"SLOT", "VERDICT", "CONTAINER", "NAME", "STATE", "DISK", "SNAPSHOTS", NULL};
    static const struct cli_list list = {.member = "containers",
                                         .name = "container_id",
                                         .headers = headers,
                                         .row = finding_row,
                                         .empty = "The database and the pool agree about every container."};
    const char *action = cli_arg(cli, 0);
    autojson body = NULL;
    autojson data = NULL;
    struct err *e;

    if (!action) {
        e = cli_show(cli, "/api/v1/node/recovery", &data);
        if (e || !data)
            return e;
        if (!cli->quiet)
            show_report(data);
        cli_list_items(cli, data, &list);
        return NULL;
    }
    body = json_pack("{s:s}", "action", action);
    e = cli_call(cli, "POST", "/api/v1/node/recovery", body, &data);
    if (!e && cli->json)
        output_json(data);
    else if (!e && !cli->quiet)
        printf("%lld containers adopted from the pool; noded starts anew, see \"nodectl health\"\n",
               (long long)json_integer_value(json_object_get(data, "adopted")));
    return e;
}
