/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "base/str.h"
#include "cli/cli.h"
#include "cli/output.h"

static struct err *env_path(struct cli *cli, const char *key, char **ret)
{
    autofree char *id = NULL, *escaped = key ? client_escape(key) : NULL;
    struct err *e = cli_find(cli, cli_arg(cli, 0), &id);

    if (!e)
        *ret = str_fmt("/api/v1/containers/%s/env%s%s", id, key ? "/" : "", key ? escaped : "");
    return e;
}

struct err *cmd_env_list(struct cli *cli)
{
    autofree char *path = NULL;
    autojson data = NULL;
    struct err *e = env_path(cli, NULL, &path);
    json_t *variables, *value;
    const char *key;

    if (!e)
        e = cli_call(cli, "GET", path, NULL, &data);
    if (e)
        return e;
    variables = json_object_get(data, "environment_vars");
    if (cli->json) {
        output_json(variables);
        return NULL;
    }
    json_object_foreach(variables, key, value)
        printf("%s%s%s\n", key, cli->quiet ? "" : "=", cli->quiet ? "" : json_string_value(value));
    return NULL;
}

static void report(const struct cli *cli, const json_t *data)
{
    if (cli->json)
        output_json(data);
    else if (!cli->quiet)
        printf("%s\n", json_is_true(json_object_get(data, "synced"))
                           ? "written; new logins see it"
                           : "stored; it is written as soon as the container allows");
}

struct err *cmd_env_set(struct cli *cli)
{
    autojson body = json_object();
    autojson data = NULL;
    autofree char *path = NULL;
    struct err *e = NULL;

    for (size_t i = 1; !e && i < cli->count; i++)
        e = cli_put_pair(body, cli_arg(cli, i));
    if (!e)
        e = env_path(cli, NULL, &path);
    if (!e)
        e = cli_call(cli, "PUT", path, body, &data);
    if (!e)
        report(cli, data);
    return e;
}

struct err *cmd_env_unset(struct cli *cli)
{
    autojson data = NULL;
    struct err *e = NULL;

    for (size_t i = 1; !e && i < cli->count; i++) {
        autofree char *path = NULL;

        json_decref(steal(&data));
        e = env_path(cli, cli_arg(cli, i), &path);
        if (!e)
            e = cli_call(cli, "DELETE", path, NULL, &data);
    }
    if (!e)
        report(cli, data);
    return e;
}
