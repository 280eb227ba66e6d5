/* SPDX-License-Identifier: Apache-2.0 */
/* The life of a container: start to resume, and its status log. */
#include <stdio.h>

#include "base/str.h"
#include "cli/cli.h"
#include "cli/list.h"

static struct err *timeout_body(const struct cli *cli, json_t **ret)
{
    const char *text = cli_value(cli, "timeout");
    int64_t seconds;

    if (!text)
        return NULL;
    if (!str_to_i64(text, &seconds) || seconds < 1 || seconds > 600)
        return cli_usage("--timeout: must be 1..600 seconds");
    *ret = json_pack("{s:I}", "timeout", (json_int_t)seconds);
    return NULL;
}

struct err *cmd_power(struct cli *cli)
{
    autojson body = NULL;
    struct err *e = timeout_body(cli, &body);

    for (size_t i = 0; !e && i < cli->count; i++) {
        autofree char *id = NULL, *path = NULL;
        autojson data = NULL;

        e = cli_find(cli, cli_arg(cli, i), &id);
        if (e)
            break;
        path = str_fmt("/api/v1/containers/%s/%s", id, cli->command->name);
        e = cli_call(cli, "POST", path, body, &data);
        if (e && cli->count > 1)
            e = err_wrap(e, "%s", cli_arg(cli, i));
        if (!e && cli->json)
            output_json(data);
        else if (!e && !cli->quiet)
            printf("%s is %s\n", cli_arg(cli, i), output_member(data, "status"));
    }
    return e;
}

static void log_row(struct table *t, const json_t *l)
{
    table_row(t, output_member(l, "transition_time"), output_member(l, "from_status"), output_member(l, "to_status"),
              output_member(l, "duration_ms"), output_member(l, "triggered_by"),
              output_member(json_object_get(l, "metadata"), "command"));
}

struct err *cmd_logs(struct cli *cli)
{
    static const char *const headers[] = {"TIME", "FROM", "TO", "MS", "BY", "COMMAND", NULL};
    static const struct cli_list list = {.member = "logs",
                                         .name = "to_status",
                                         .headers = headers,
                                         .row = log_row,
                                         .empty = "Its status has not changed yet."};
    const char *limit = cli_value(cli, "limit");
    autofree char *id = NULL, *path = NULL, *escaped = client_escape(limit ? limit : "20");
    struct err *e = cli_find(cli, cli_arg(cli, 0), &id);

    if (e)
        return e;
    path = str_fmt("/api/v1/containers/%s/status-logs?limit=%s", id, escaped);
    return cli_list(cli, path, &list);
}
