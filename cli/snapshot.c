/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "base/str.h"
#include "cli/cli.h"
#include "cli/list.h"

/* The path of the container's snapshots, or of the one named by the second argument. */
static struct err *snapshots_path(struct cli *cli, bool one, char **ret)
{
    autofree char *id = NULL, *name = one ? client_escape(cli_arg(cli, 1)) : NULL;
    struct err *e = cli_find(cli, cli_arg(cli, 0), &id);

    if (!e)
        *ret = str_fmt("/api/v1/containers/%s/snapshots%s%s", id, one ? "/" : "", one ? name : "");
    return e;
}

static void list_row(struct table *t, const json_t *s)
{
    char size[16];

    table_row(t, output_member(s, "name"), output_member(s, "alias"), output_member(s, "created_at"),
              output_member(s, "last_used_at"), output_member(s, "expires_at"),
              output_bytes(json_integer_value(json_object_get(s, "size")), size));
}

struct err *cmd_snapshot_list(struct cli *cli)
{
    static const char *const headers[] = {"NAME", "ALIAS", "CREATED", "LAST USED", "EXPIRES", "SIZE", NULL};
    static const struct cli_list list = {.member = "snapshots",
                                         .name = "name",
                                         .headers = headers,
                                         .row = list_row,
                                         .empty = "There are no snapshots: 'nodectl snapshot create' makes one."};
    autofree char *path = NULL;
    struct err *e = snapshots_path(cli, false, &path);

    return e ? e : cli_list(cli, path, &list);
}

static struct err *create_body(const struct cli *cli, json_t *body)
{
    const char *days = cli_value(cli, "expire");
    int64_t n;

    if (cli_arg(cli, 1))
        json_object_set_new(body, "alias", json_string(cli_arg(cli, 1)));
    if (!days)
        return NULL;
    if (!str_to_i64(days, &n) || n < 1 || n > 3650)
        return cli_usage("--expire: must be 1..3650 days");
    json_object_set_new(body, "expiry", json_integer(n));
    return NULL;
}

struct err *cmd_snapshot_create(struct cli *cli)
{
    autojson body = json_object();
    autojson data = NULL;
    autofree char *path = NULL;
    struct err *e = create_body(cli, body);

    if (!e)
        e = snapshots_path(cli, false, &path);
    if (!e)
        e = cli_call(cli, "POST", path, body, &data);
    if (e)
        return e;
    if (cli->json)
        output_json(json_object_get(data, "snapshot"));
    else
        printf("%s%s\n", output_member(json_object_get(data, "snapshot"), "name"), cli->quiet ? "" : " created");
    return NULL;
}

static struct err *change(struct cli *cli, const char *method, const char *done)
{
    autofree char *path = NULL;
    autojson data = NULL;
    struct err *e = snapshots_path(cli, true, &path);

    if (!e)
        e = cli_call(cli, method, path, NULL, &data);
    if (!e && cli->json)
        output_json(data);
    else if (!e && !cli->quiet)
        printf("%s %s\n", cli_arg(cli, 1), done);
    return e;
}

struct err *cmd_snapshot_restore(struct cli *cli)
{
    return change(cli, "PUT", "restored");
}

struct err *cmd_snapshot_delete(struct cli *cli)
{
    return change(cli, "DELETE", "deleted");
}

struct err *cmd_snapshot_alias(struct cli *cli)
{
    autojson body = json_object();
    autofree char *path = NULL, *below = NULL;
    autojson data = NULL;
    struct err *e = snapshots_path(cli, true, &path);

    if (e)
        return e;
    json_object_set_new(body, "alias", cli_arg(cli, 2) ? json_string(cli_arg(cli, 2)) : json_null());
    below = str_fmt("%s/alias", path);
    e = cli_call(cli, "PATCH", below, body, &data);
    if (!e && cli->json)
        output_json(json_object_get(data, "snapshot"));
    else if (!e && !cli->quiet)
        printf("%s is now %s\n", output_member(json_object_get(data, "snapshot"), "name"),
               cli_arg(cli, 2) ? cli_arg(cli, 2) : "without an alias");
    return e;
}
