/* SPDX-License-Identifier: Apache-2.0 */
/* Containers on their way from and to other nodes. */
#include "base/str.h"
#include "cli/cli.h"
#include "cli/output.h"

struct err *cmd_transfers(struct cli *cli)
{
    static const char *const headers[] = {"CONTAINER", "DIRECTION", "SERVER", "BYTES", "SINCE", NULL};
    autojson data = NULL;
    struct err *e = cli_show(cli, "/api/v1/node/transfers", &data);
    struct table *t;
    json_t *j;
    size_t i;

    if (e || !data)
        return e;
    t = table_new(headers);
    json_array_foreach(json_object_get(data, "transfers"), i, j)
    {
        char bytes[16];

        table_row(t, output_member(j, "container_id"), output_member(j, "direction"), output_member(j, "server_id"),
                  output_bytes(json_integer_value(json_object_get(j, "bytes")), bytes), output_member(j, "started_at"));
    }
    table_print(t, "Nothing is on its way.");
    return NULL;
}
