/* SPDX-License-Identifier: Apache-2.0 */
/* nodectl: exit 0, 1 when something fails, 2 when the command line is wrong. */
#include <stdio.h>
#include <unistd.h>

#include "base/str.h"
#include "cli/cli.h"
#include "cli/output.h"

#define ANSWER_TIMEOUT_S 660 /* the API's longest operation is 600 s */

static const char *setting(const struct cli *cli, const char *option, const char *variable, const char *otherwise)
{
    const char *v = cli_value(cli, option);

    if (!v)
        v = getenv(variable);
    return v && *v ? v : otherwise;
}

/* A socket on the command line is stronger than a URL in the environment. */
static const char *url(const struct cli *cli)
{
    return cli_has(cli, "socket") ? cli_value(cli, "url") : setting(cli, "url", "NODED_URL", NULL);
}

bool cli_is_remote(const struct cli *cli)
{
    return url(cli) != NULL;
}

struct err *cli_connect(struct cli *cli)
{
    const struct client_config config = {
        .socket = setting(cli, "socket", "NODED_SOCKET", "/run/noded/control.sock"),
        .url = url(cli),
        .cert = setting(cli, "cert", "NODED_CERT", "/etc/noded/pki/operator.crt"),
        .key = setting(cli, "key", "NODED_KEY", "/etc/noded/pki/operator.key"),
        .ca = setting(cli, "ca", "NODED_CA", "/etc/noded/pki/ca.crt"),
        .timeout_s = ANSWER_TIMEOUT_S,
        .progress = isatty(STDERR_FILENO),
    };

    return cli->client ? NULL : client_open(&config, &cli->client);
}

struct err *cli_call(struct cli *cli, const char *method, const char *path, const json_t *body, json_t **ret)
{
    struct err *e = cli_connect(cli);

    return e ? e : client_call(cli->client, method, path, body, ret);
}

struct err *cli_show(struct cli *cli, const char *path, json_t **ret)
{
    autojson data = NULL;
    struct err *e = cli_call(cli, "GET", path, NULL, &data);

    if (!e && cli->json)
        output_json(data);
    else if (!e)
        *ret = steal(&data);
    return e;
}

int main(int argc, char **argv)
{
    struct cli cli = {0};
    bool done = false;
    int result = 0;
    struct err *e = cli_parse(argc, argv, &cli, &done);

    if (!e && !done)
        e = cli.command->run(&cli);
    if (e) {
        fprintf(stderr, "nodectl: %s\n", err_message(e));
        result = cli_is_usage(e) ? 2 : 1;
        err_free(e);
    }
    cli_done(&cli);
    if (fflush(stdout) != 0 && !result)
        result = 1;
    return result;
}
