/* SPDX-License-Identifier: Apache-2.0 */
/* The kits of a container. */
#include <stdio.h>

#include "base/str.h"
#include "cli/cli.h"
#include "cli/output.h"

static const char *text(const json_t *object, const char *member)
{
    return json_string_value(json_object_get(object, member));
}

static void show_services(const json_t *report)
{
    static const char *const headers[] = {"KIT", "VERSION", "SERVICE", "PORT", "STATE", "READY AFTER", "", NULL};
    struct table *t = table_new(headers);
    const json_t *kit, *service;
    size_t i, k;

    json_array_foreach(json_object_get(report, "kits"), i, kit)
    {
        bool any = false;

        json_array_foreach(json_object_get(report, "services"), k, service)
        {
            const json_t *ms = json_object_get(service, "ready_ms");
            autofree char *ready = json_is_integer(ms) ? str_fmt("%lld ms", (long long)json_integer_value(ms)) : NULL;

            if (!str_eq(text(service, "kit"), text(kit, "name")))
                continue;
            any = true;
            table_row(t, text(kit, "name"), text(kit, "version"), text(service, "slug"), output_member(service, "port"),
                      text(service, "state"), ready, text(service, "error"));
        }
        if (!any)
            table_row(t, text(kit, "name"), text(kit, "version"), NULL, NULL, NULL, NULL, NULL);
    }
    table_print(t, "The container has no kits.");
}

static void show(const struct cli *cli, const json_t *report)
{
    if (cli->json)
        output_json(report);
    else if (!cli->quiet)
        show_services(report);
}

static struct err *call(struct cli *cli, const char *method, const json_t *body)
{
    autofree char *id = NULL, *path = NULL;
    autojson report = NULL;
    struct err *e = cli_find(cli, cli_arg(cli, 0), &id);

    if (e)
        return e;
    path = str_fmt("/api/v1/containers/%s/kits", id);
    e = cli_call(cli, method, path, body, &report);
    if (!e)
        show(cli, report);
    return e;
}

struct err *cmd_kit_show(struct cli *cli)
{
    return call(cli, "GET", NULL);
}

struct err *cmd_kit_rollback(struct cli *cli)
{
    autojson body = json_pack("{s:b}", "rollback", 1);

    return call(cli, "PUT", body);
}

static void put(json_t *kits, const char *name, const char *version)
{
    json_t *kit;
    size_t i;

    json_array_foreach(kits, i, kit)
    {
        if (str_eq(text(kit, "name"), name)) {
            json_array_remove(kits, i);
            break;
        }
    }
    if (!str_eq(version, "none"))
        json_array_append_new(kits, json_pack("{s:s, s:s}", "name", name, "version", version));
}

/* The container's kits with what the arguments say of some of them. */
static struct err *changed(struct cli *cli, json_t **ret)
{
    autofree char *id = NULL, *path = NULL;
    autojson report = NULL;
    autojson pairs = json_object();
    const char *name;
    json_t *version;
    struct err *e = NULL;

    for (size_t i = 1; !e && i < cli->count; i++)
        e = cli_put_pair(pairs, cli_arg(cli, i));
    if (!e)
        e = cli_find(cli, cli_arg(cli, 0), &id);
    if (e)
        return e;
    path = str_fmt("/api/v1/containers/%s/kits", id);
    e = cli_call(cli, "GET", path, NULL, &report);
    if (e)
        return e;
    json_object_foreach(pairs, name, version) put(json_object_get(report, "kits"), name, json_string_value(version));
    *ret = json_incref(json_object_get(report, "kits"));
    return NULL;
}

struct err *cmd_kit_upgrade(struct cli *cli)
{
    autojson body = json_object();
    json_t *kits = NULL;
    struct err *e = cli->count > 1 ? changed(cli, &kits) : NULL;

    if (e)
        return e;
    if (kits)
        json_object_set_new(body, "kits", kits);
    return call(cli, "PUT", body);
}
