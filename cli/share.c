/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "base/str.h"
#include "cli/cli.h"
#include "cli/client.h"
#include "cli/list.h"

static struct err *container_path(struct cli *cli, const char *rest, char **ret)
{
    autofree char *id = NULL;
    struct err *e = cli_find(cli, cli_arg(cli, 0), &id);

    if (!e)
        *ret = str_fmt("/api/v1/containers/%s/storage/%s", id, rest);
    return e;
}

static void outgoing_row(struct table *t, const json_t *s)
{
    const char *target = json_is_string(json_object_get(s, "target_container_id"))
                             ? output_member(s, "target_container_id")
                             : output_member(s, "target_project_id");

    table_row(t, output_member(s, "id"), output_member(s, "source_path"), output_member(s, "target_type"), target,
              output_member(s, "mode"), output_member(s, "enabled"), output_member(s, "status"),
              output_member(s, "status_message"));
}

struct err *cmd_share_list(struct cli *cli)
{
    static const char *const headers[] = {"ID", "PATH", "FOR", "TARGET", "MODE", "ENABLED", "STATUS", "WHY", NULL};
    static const struct cli_list list = {.name = "id",
                                         .headers = headers,
                                         .row = outgoing_row,
                                         .empty = "Nothing is shared: 'nodectl share create' shares a directory."};
    autofree char *path = NULL;
    struct err *e = cli_arg(cli, 0) ? container_path(cli, "shares", &path) : NULL;

    return e ? e : cli_list(cli, path ? path : "/api/v1/storage/shares", &list);
}

static void incoming_row(struct table *t, const json_t *s)
{
    table_row(t, output_member(s, "id"), output_member(s, "source_container_id"), output_member(s, "source_path"),
              output_member(s, "mode"), output_member(s, "mount"), output_member(s, "status"),
              output_member(s, "mount_path"));
}

struct err *cmd_share_incoming(struct cli *cli)
{
    static const char *const headers[] = {"ID", "FROM", "PATH", "MODE", "MOUNT", "STATUS", "WHERE", NULL};
    static const struct cli_list list = {
        .name = "id", .headers = headers, .row = incoming_row, .empty = "Nobody shares anything with it."};
    autofree char *path = NULL;
    struct err *e = container_path(cli, "incoming", &path);

    return e ? e : cli_list(cli, path, &list);
}

static struct err *put_target(struct cli *cli, json_t *body)
{
    const char *container = cli_value(cli, "to"), *project = cli_value(cli, "project");
    autofree char *id = NULL;
    struct err *e;

    if (!container == !project)
        return cli_usage("give one of --to and --project");
    e = container ? cli_find(cli, container, &id) : cli_find_project(cli, project, &id);
    if (!e)
        json_object_set_new(body, container ? "target_container_id" : "target_project_id", json_string(id));
    return e;
}

struct err *cmd_share_create(struct cli *cli)
{
    autojson body = json_pack("{s:s, s:s}", "source_path", cli_arg(cli, 1), "mode",
                              cli_has(cli, "write") ? "readwrite" : "readonly");
    autofree char *path = NULL;
    autojson data = NULL;
    struct err *e = put_target(cli, body);

    if (!e && cli_has(cli, "alias"))
        json_object_set_new(body, "alias", json_string(cli_value(cli, "alias")));
    if (!e)
        e = container_path(cli, "shares", &path);
    if (!e)
        e = cli_call(cli, "POST", path, body, &data);
    if (!e && cli->json)
        output_json(data);
    else if (!e)
        printf("%s\n", output_member(data, "id"));
    return e;
}

struct err *cmd_share_delete(struct cli *cli)
{
    struct err *e = NULL;

    for (size_t i = 0; !e && i < cli->count; i++) {
        autofree char *id = client_escape(cli_arg(cli, i)), *path = str_fmt("/api/v1/storage/shares/%s", id);

        e = cli_call(cli, "DELETE", path, NULL, NULL);
    }
    return e;
}

/* "share mount" and "share unmount". */
struct err *cmd_share_mount(struct cli *cli)
{
    autojson body = json_pack("{s:b}", "mount", str_eq(cli->command->name, "share mount"));
    autofree char *id = client_escape(cli_arg(cli, 1)), *rest = str_fmt("incoming/%s/mount", id), *path = NULL;
    autojson data = NULL;
    struct err *e = container_path(cli, rest, &path);

    if (!e)
        e = cli_call(cli, "PATCH", path, body, &data);
    if (!e && cli->json)
        output_json(data);
    return e;
}
