/* SPDX-License-Identifier: Apache-2.0 */
/* Kits where they are made: without a node. */
#include <stdio.h>

#include "base/str.h"
#include "cli/cli.h"
#include "cli/output.h"
#include "provisioning/bundle.h"

static const char *option(const struct cli *cli, const char *name, const char *otherwise)
{
    const char *v = cli_value(cli, name);

    return v ? v : otherwise;
}

static void show(const struct cli *cli, const json_t *manifest, const char *file, const char *done)
{
    if (cli->json)
        output_json(manifest);
    else if (cli->quiet)
        puts(file);
    else
        printf("%s: kit %s %s%s\n", file, output_member(manifest, "name"), output_member(manifest, "version"), done);
}

struct err *cmd_kit_build(struct cli *cli)
{
    const struct bundle_recipe recipe = {
        .dir = cli_arg(cli, 0),
        .private_key = option(cli, "key", "kits.key"),
        .out = option(cli, "out", "."),
        .version_by_content = cli_has(cli, "version-by-content"),
    };
    autofree char *file = NULL;
    autojson manifest = NULL;
    struct err *e = bundle_build(&recipe, &file, &manifest);

    if (!e)
        show(cli, manifest, file, "");
    return e;
}

struct err *cmd_kit_verify(struct cli *cli)
{
    struct err *e = NULL;

    for (size_t i = 0; !e && i < cli->count; i++) {
        autojson manifest = NULL;

        e = bundle_check(cli_arg(cli, i), option(cli, "public-key", "/etc/noded/kits.pub"), &manifest);
        if (!e)
            show(cli, manifest, cli_arg(cli, i), ", good");
    }
    return e;
}
