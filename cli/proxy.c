/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "base/str.h"
#include "cli/cli.h"
#include "cli/output.h"

struct err *cmd_proxy(struct cli *cli)
{
    const char *wanted = cli_arg(cli, 1);
    autofree char *id = NULL, *path = NULL;
    autojson body = NULL;
    autojson data = NULL;
    struct err *e;

    if (wanted && !str_eq(wanted, "on") && !str_eq(wanted, "off"))
        return cli_usage("'%s': on or off", wanted);
    e = cli_find(cli, cli_arg(cli, 0), &id);
    if (e)
        return e;
    path = str_fmt("/api/v1/containers/%s/transparent-proxy", id);
    if (wanted)
        body = json_pack("{s:b}", "enabled", str_eq(wanted, "on"));
    e = cli_call(cli, wanted ? "PUT" : "GET", path, body, &data);
    if (!e && cli->json)
        output_json(data);
    else if (!e && !cli->quiet)
        puts(json_is_true(json_object_get(data, "enabled")) ? "on" : "off");
    return e;
}
