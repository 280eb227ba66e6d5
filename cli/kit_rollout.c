/* SPDX-License-Identifier: Apache-2.0 */
/* Other kits for many containers. */
#include <stdio.h>
#include <time.h>

#include "base/str.h"
#include "cli/cli.h"
#include "cli/output.h"

#define ROLLOUT "/api/v1/node/kits/rollout"
enum { LOOK_NS = 300 * 1000 * 1000 };

static const char *text(const json_t *object, const char *member)
{
    return json_string_value(json_object_get(object, member));
}

static void show_services(struct table *t, const json_t *result)
{
    const json_t *service;
    size_t i;

    json_array_foreach(json_object_get(result, "services"), i, service)
    {
        const json_t *ms = json_object_get(service, "ready_ms");
        autofree char *away = json_is_integer(ms) ? str_fmt("%lld ms", (long long)json_integer_value(ms)) : NULL;

        table_row(t, text(result, "container_id"), text(result, "name"), text(service, "kit"), text(service, "version"),
                  text(service, "slug"), text(service, "state"), away, text(service, "error"));
    }
}

static void show(const struct cli *cli, const json_t *report)
{
    static const char *const headers[] = {"CONTAINER", "NAME", "KIT", "VERSION", "SERVICE", "STATE", "AWAY", "", NULL};
    struct table *t;
    const json_t *result;
    size_t i;

    if (cli->json) {
        output_json(report);
        return;
    }
    if (cli->quiet)
        return;
    t = table_new(headers);
    json_array_foreach(json_object_get(report, "results"), i, result)
    {
        if (json_array_size(json_object_get(result, "services")) > 0)
            show_services(t, result);
        else
            table_row(t, text(result, "container_id"), text(result, "name"), NULL, NULL, NULL, text(result, "result"),
                      NULL, text(result, "error"));
    }
    table_print(t, "There are no containers with kits.");
    printf("%s: %zu of %lld\n", text(report, "state"), json_array_size(json_object_get(report, "results")),
           (long long)json_integer_value(json_object_get(report, "total")));
}

static bool ends(const json_t *report)
{
    return json_integer_value(json_object_get(report, "active")) == 0 &&
           !json_is_null(json_object_get(report, "ended_at"));
}

/* Looks until it is over. An error when it did not end well. */
static struct err *await(struct cli *cli, json_t **report)
{
    const struct timespec pause = {.tv_nsec = LOOK_NS};
    struct err *e = NULL;

    while (!e && !ends(*report)) {
        json_decref(*report);
        *report = NULL;
        (void)nanosleep(&pause, NULL);
        e = cli_call(cli, "GET", ROLLOUT, NULL, report);
    }
    return e;
}

/* The node's suite with what the arguments say of some kits. */
static struct err *wanted(struct cli *cli, json_t *body)
{
    autojson pairs = json_object();
    autojson node = NULL;
    json_t *kits, *version, *kit;
    const char *name;
    size_t i;
    struct err *e = NULL;

    for (i = 0; !e && i < cli->count; i++)
        e = cli_put_pair(pairs, cli_arg(cli, i));
    if (!e)
        e = cli_call(cli, "GET", "/api/v1/node/kits", NULL, &node);
    if (e)
        return e;
    kits = json_object_get(node, "suite");
    json_object_foreach(pairs, name, version)
    {
        json_array_foreach(kits, i, kit)
        {
            if (str_eq(text(kit, "name"), name)) {
                json_array_remove(kits, i);
                break;
            }
        }
        if (!str_eq(json_string_value(version), "none"))
            json_array_append_new(kits, json_pack("{s:s, s:O}", "name", name, "version", version));
    }
    json_object_set(body, "kits", kits);
    return NULL;
}

static struct err *request(struct cli *cli, json_t *body)
{
    const char *parallel = cli_value(cli, "parallel");
    autofree char *project = NULL;
    int64_t n;
    struct err *e = cli->count ? wanted(cli, body) : NULL;

    if (!e && parallel && !str_to_i64(parallel, &n))
        return cli_usage("--parallel: '%s' is no number", parallel);
    if (!e && parallel)
        json_object_set_new(body, "parallel", json_integer((json_int_t)n));
    if (!e && cli_has(cli, "rollback-on-failure"))
        json_object_set_new(body, "on_failure", json_string("rollback"));
    if (!e && cli_has(cli, "rollback"))
        json_object_set_new(body, "rollback", json_true());
    if (!e && cli_value(cli, "project")) {
        e = cli_find_project(cli, cli_value(cli, "project"), &project);
        if (!e)
            json_object_set_new(body, "project_id", json_string(project));
    }
    return e;
}

struct err *cmd_kit_rollout(struct cli *cli)
{
    bool look = cli_has(cli, "show"), stop = cli_has(cli, "stop");
    autojson body = json_object();
    autojson report = NULL;
    struct err *e = look || stop ? NULL : request(cli, body);

    if (!e)
        e = cli_call(cli, stop ? "DELETE" : look ? "GET" : "POST", ROLLOUT, look || stop ? NULL : body, &report);
    if (!e && !look && !cli_has(cli, "no-wait"))
        e = await(cli, &report);
    if (e)
        return e;
    show(cli, report);
    return str_eq(text(report, "state"), "failed") && !look ? err_new(ERR_HOST, "the rollout has failed") : NULL;
}
