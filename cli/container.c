/* SPDX-License-Identifier: Apache-2.0 */
/* Containers: list, show, create, copy, delete. */
#include <stdio.h>

#include "base/fd.h"
#include "base/str.h"
#include "cli/cli.h"
#include "cli/list.h"

#define SSH_KEY_MAX 16384

static void list_row(struct table *t, const json_t *c)
{
    table_row(t, output_member(c, "id"), output_member(c, "name"), output_member(c, "status"),
              output_member(json_object_get(c, "operation"), "name"), output_member(c, "container_image"),
              output_member(c, "snapshot_count"), output_member(c, "created_at"));
}

struct err *cmd_list(struct cli *cli)
{
    static const char *const headers[] = {"ID", "NAME", "STATUS", "OPERATION", "IMAGE", "SNAPSHOTS", "CREATED", NULL};
    static const struct cli_list list = {.member = "containers",
                                         .name = "id",
                                         .headers = headers,
                                         .row = list_row,
                                         .empty = "There are no containers: 'nodectl create' makes one."};
    autofree char *project = NULL, *path = NULL;
    struct err *e = NULL;

    if (cli_has(cli, "project"))
        e = cli_find_project(cli, cli_value(cli, "project"), &project);
    if (e)
        return e;
    path = project ? str_fmt("/api/v1/projects/%s/containers?sort_by=name&sort_order=asc", project)
                   : str_dup("/api/v1/containers/?sort_by=name&sort_order=asc");
    return cli_list_pages(cli, path, &list);
}

/* What holds it, and how that can be ended. */
static void show_operation(const json_t *operation)
{
    autofree char *text = NULL;

    if (!json_is_object(operation))
        return;
    text = str_fmt("%s since %s (%s)", output_member(operation, "name"), output_member(operation, "since"),
                   output_member(operation, "operation_id"));
    output_line("Operation", text);
    output_line("", output_member(operation, "hint"));
}

/* Prints a container: as JSON, its id, or its main members. */
static void show(const struct cli *cli, const json_t *c)
{
    static const struct {
        const char *label, *member;
    } rows[] = {
        {"Id", "id"},
        {"Name", "name"},
        {"Status", "status"},
        {"Project", "project_id"},
        {"Image", "container_image"},
        {"Kit suite", "hoody_kit"},
        {"Ramdisk", "ramdisk"},
        {"Starts at boot", "autostart"},
        {"SSH key", "ssh_key_fingerprint"},
        {"Copy of", "source_container_id"},
        {"Snapshots", "snapshot_count"},
        {"Comment", "comment"},
        {"Created", "created_at"},
        {"Updated", "updated_at"},
    };

    if (cli->json) {
        output_json(c);
        return;
    }
    if (cli->quiet) {
        printf("%s\n", output_member(c, "id"));
        return;
    }
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        output_line(rows[i].label, output_member(c, rows[i].member));
    show_operation(json_object_get(c, "operation"));
}

struct err *cmd_get(struct cli *cli)
{
    autofree char *id = NULL, *path = NULL;
    autojson data = NULL;
    struct err *e = cli_find(cli, cli_arg(cli, 0), &id);

    if (e)
        return e;
    path = str_fmt("/api/v1/containers/%s", id);
    e = cli_call(cli, "GET", path, NULL, &data);
    if (!e)
        show(cli, data);
    return e;
}

static void put(json_t *body, const char *member, const char *value)
{
    if (value)
        json_object_set_new(body, member, json_string(value));
}

static struct err *put_ssh_key(const struct cli *cli, json_t *body)
{
    const char *file = cli_value(cli, "ssh-key");
    autofree char *text = NULL;
    struct err *e;

    if (!file)
        return NULL;
    e = fd_read_file(file, SSH_KEY_MAX, &text, NULL);
    if (e)
        return err_wrap(e, "--ssh-key");
    text[strcspn(text, "\r\n")] = '\0';
    if (strstr(text, "PRIVATE KEY"))
        return cli_usage("--ssh-key: '%s' is a private key, give the .pub file", file);
    put(body, "ssh_public_key", text);
    return NULL;
}

struct err *cli_put_pair(json_t *object, const char *text)
{
    size_t len = strcspn(text, "=");
    autofree char *key = str_fmt("%.*s", (int)len, text);

    if (!len || !text[len])
        return cli_usage("'%s' is not KEY=VALUE", text);
    json_object_set_new(object, key, json_string(text + len + 1));
    return NULL;
}

static struct err *create_body(const struct cli *cli, json_t *body)
{
    json_t *environment = json_object();
    struct err *e = NULL;

    put(body, "server_id", "self");
    put(body, "name", cli_arg(cli, 0));
    put(body, "id", cli_value(cli, "id"));
    put(body, "container_image", cli_value(cli, "image"));
    put(body, "comment", cli_value(cli, "comment"));
    put(body, "color", cli_value(cli, "color"));
    for (size_t i = 0; !e && cli_nth(cli, "env", i); i++)
        e = cli_put_pair(environment, cli_nth(cli, "env", i));
    if (json_object_size(environment))
        json_object_set(body, "environment_vars", environment);
    json_decref(environment);
    json_object_set_new(body, "hoody_kit", json_boolean(!cli_has(cli, "no-kit")));
    if (cli_has(cli, "no-dev-kit"))
        json_object_set_new(body, "dev_kit", json_false());
    json_object_set_new(body, "ramdisk", json_boolean(!cli_has(cli, "no-ramdisk")));
    json_object_set_new(body, "autostart", json_boolean(!cli_has(cli, "no-autostart")));
    return e ? e : put_ssh_key(cli, body);
}

struct err *cmd_create(struct cli *cli)
{
    const char *project = cli_value(cli, "project");
    autofree char *escaped = client_escape(project ? project : CLI_DEFAULT_PROJECT);
    autofree char *path =
        str_fmt("/api/v1/projects/%s/containers%s", escaped, cli_has(cli, "wait") ? "?wait=true" : "");
    autojson body = json_object();
    autojson data = NULL;
    struct err *e = create_body(cli, body);

    if (!e)
        e = cli_call(cli, "POST", path, body, &data);
    if (!e)
        show(cli, data);
    return e;
}

static struct err *put_switch(const struct cli *cli, json_t *body, const char *name)
{
    const char *value = cli_value(cli, name);

    if (value && !str_eq(value, "on") && !str_eq(value, "off"))
        return cli_usage("--%s: '%s' is neither on nor off", name, value);
    if (value)
        json_object_set_new(body, name, json_boolean(str_eq(value, "on")));
    return NULL;
}

static struct err *update_body(const struct cli *cli, json_t *body)
{
    struct err *e = put_switch(cli, body, "ramdisk");

    if (!e)
        e = put_switch(cli, body, "autostart");
    if (!e && cli_has(cli, "ssh-key") && cli_has(cli, "no-ssh-key"))
        e = cli_usage("--ssh-key and --no-ssh-key contradict each other");
    if (!e)
        e = put_ssh_key(cli, body);
    put(body, "name", cli_value(cli, "name"));
    put(body, "color", cli_value(cli, "color"));
    put(body, "ramdisk_scope", cli_value(cli, "ramdisk-scope"));
    if (cli_has(cli, "no-ssh-key"))
        json_object_set_new(body, "ssh_public_key", json_null());
    if (cli_has(cli, "comment"))
        json_object_set_new(body, "comment",
                            *cli_value(cli, "comment") ? json_string(cli_value(cli, "comment")) : json_null());
    if (!e && json_object_size(body) == 0)
        e = cli_usage("say what to change: see 'nodectl update --help'");
    return e;
}

struct err *cmd_update(struct cli *cli)
{
    autofree char *id = NULL, *path = NULL;
    autojson body = json_object();
    autojson data = NULL;
    struct err *e = update_body(cli, body);

    if (!e)
        e = cli_find(cli, cli_arg(cli, 0), &id);
    if (e)
        return e;
    path = str_fmt("/api/v1/containers/%s", id);
    e = cli_call(cli, "PATCH", path, body, &data);
    if (!e)
        show(cli, data);
    return e;
}

static struct err *project_of(struct cli *cli, const char *id, json_t *body)
{
    autofree char *path = str_fmt("/api/v1/containers/%s", id);
    const char *project = cli_value(cli, "project");
    autojson data = NULL;
    struct err *e = NULL;

    if (!project)
        e = cli_call(cli, "GET", path, NULL, &data);
    put(body, "target_project_id", project ? project : json_string_value(json_object_get(data, "project_id")));
    return e;
}

struct err *cmd_copy(struct cli *cli)
{
    autofree char *id = NULL, *path = NULL;
    autojson body = json_object();
    autojson data = NULL;
    struct err *e = cli_find(cli, cli_arg(cli, 0), &id);

    if (!e)
        e = project_of(cli, id, body);
    if (e)
        return e;
    put(body, "name", cli_value(cli, "name"));
    put(body, "id", cli_value(cli, "id"));
    put(body, "source_snapshot", cli_value(cli, "snapshot"));
    put(body, "target_server_id", cli_value(cli, "server"));
    json_object_set_new(body, "copy_firewall_rules", json_boolean(cli_has(cli, "firewall")));
    json_object_set_new(body, "copy_network_rules", json_boolean(cli_has(cli, "network")));
    path = str_fmt("/api/v1/containers/%s/copy%s", id, cli_has(cli, "wait") ? "?wait=true" : "");
    e = put_ssh_key(cli, body);
    if (!e)
        e = cli_call(cli, "POST", path, body, &data);
    if (!e)
        show(cli, data);
    return e;
}

struct err *cmd_sync(struct cli *cli)
{
    autofree char *id = NULL, *path = NULL;
    autojson data = NULL;
    struct err *e = cli_find(cli, cli_arg(cli, 0), &id);

    if (e)
        return e;
    path = str_fmt("/api/v1/containers/%s/sync?wait=true", id);
    e = cli_call(cli, "POST", path, NULL, &data);
    if (!e)
        show(cli, data);
    return e;
}

struct err *cmd_delete(struct cli *cli)
{
    struct err *e = NULL;

    for (size_t i = 0; !e && i < cli->count; i++) {
        autofree char *id = NULL, *path = NULL;

        e = cli_find(cli, cli_arg(cli, i), &id);
        if (e)
            break;
        path = str_fmt("/api/v1/containers/%s", id);
        e = cli_call(cli, "DELETE", path, NULL, NULL);
        if (!e && !cli->quiet && !cli->json)
            printf("%s deleted\n", cli_arg(cli, i));
    }
    return e;
}
