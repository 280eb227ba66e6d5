/* SPDX-License-Identifier: Apache-2.0 */
/* Containers on their way from and to other nodes. */
#include "base/str.h"
#include "cli/cli.h"
#include "cli/list.h"

static void row(struct table *t, const json_t *j)
{
    char bytes[16];

    table_row(t, output_member(j, "container_id"), output_member(j, "direction"), output_member(j, "server_id"),
              output_bytes(json_integer_value(json_object_get(j, "bytes")), bytes), output_member(j, "started_at"));
}

struct err *cmd_transfers(struct cli *cli)
{
    static const char *const headers[] = {"CONTAINER", "DIRECTION", "SERVER", "BYTES", "SINCE", NULL};
    static const struct cli_list list = {.member = "transfers",
                                         .whole = true,
                                         .name = "container_id",
                                         .headers = headers,
                                         .row = row,
                                         .empty = "Nothing is on its way."};

    return cli_list(cli, "/api/v1/node/transfers", &list);
}
