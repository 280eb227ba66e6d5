/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "base/str.h"
#include "cli/cli.h"
#include "cli/output.h"

/* Options that are fields of a rule or of a filter. */
static const struct {
    const char *option, *field;
} fields[] = {
    {"action", "action"},       {"protocol", "protocol"},       {"port", "destination_port"},
    {"source", "source"},       {"destination", "destination"}, {"source-port", "source_port"},
    {"icmp-type", "icmp_type"}, {"icmp-code", "icmp_code"},     {"description", "description"},
    {"state", "state"},
};

static json_t *fields_of(const struct cli *cli)
{
    json_t *body = json_object();

    for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
        const char *v = cli_value(cli, fields[i].option);

        if (v)
            json_object_set_new(body, fields[i].field, json_string(v));
    }
    return body;
}

/* "/api/v1/containers/ID/firewall/LAST" */
static struct err *firewall_path(struct cli *cli, const char *last, char **ret)
{
    autofree char *id = NULL;
    struct err *e = cli_find(cli, cli_arg(cli, 0), &id);

    if (!e)
        *ret = str_fmt("/api/v1/containers/%s/firewall/%s", id, last);
    return e;
}

static struct err *direction_path(struct cli *cli, char **ret)
{
    const char *direction = cli->args[1];

    if (!str_eq(direction, "ingress") && !str_eq(direction, "egress"))
        return cli_usage("'%s' is neither ingress nor egress", direction);
    return firewall_path(cli, direction, ret);
}

static void add_rows(struct table *t, const char *direction, const json_t *rules)
{
    bool in = str_eq(direction, "ingress");
    const json_t *r, *counters;
    size_t i;

    json_array_foreach((json_t *)(uintptr_t)rules, i, r)
    {
        autofree char *number = str_fmt("%zu", i);
        const char *icmp = json_string_value(json_object_get(r, "icmp_type"));

        counters = json_object_get(r, "counters");
        table_row(t, direction, number, output_member(r, "action"), output_member(r, "protocol"),
                  output_member(r, in ? "source" : "destination"),
                  output_member(r, icmp ? "icmp_type" : "destination_port"), output_member(r, "state"),
                  output_member(counters, "packets"), output_member(counters, "bytes"),
                  output_member(r, "description"));
    }
}

static void show_rules(const json_t *data)
{
    static const char *const headers[] = {"DIRECTION", "#",       "ACTION", "PROTOCOL",    "ADDRESS", "PORT",
                                          "STATE",     "PACKETS", "BYTES",  "DESCRIPTION", NULL};
    struct table *t = table_new(headers);

    add_rows(t, "ingress", json_object_get(data, "ingress"));
    add_rows(t, "egress", json_object_get(data, "egress"));
    table_print(t, "There are no rules: everything is allowed.");
}

struct err *cmd_firewall_list(struct cli *cli)
{
    autofree char *path = NULL;
    autojson data = NULL;
    struct err *e = firewall_path(cli, "rules?counters=true", &path);

    if (!e)
        e = cli_call(cli, "GET", path, NULL, &data);
    if (!e && cli->json)
        output_json(data);
    else if (!e)
        show_rules(data);
    return e;
}

struct err *cmd_firewall_add(struct cli *cli)
{
    autojson body = fields_of(cli);
    autojson data = NULL;
    autofree char *path = NULL;
    struct err *e = direction_path(cli, &path);

    if (e)
        return e;
    json_object_set_new(body, "action", json_string(cli_arg(cli, 2)));
    json_object_set_new(body, "protocol", json_string(cli_arg(cli, 3)));
    if (cli_has(cli, "disabled"))
        json_object_set_new(body, "state", json_string("disabled"));
    e = cli_call(cli, "POST", path, body, &data);
    if (e)
        return e;
    if (cli->json)
        output_json(data);
    else if (json_is_true(json_object_get(data, "duplicate")))
        printf("there is such a rule already, number %s\n",
               output_member(json_object_get(data, "duplicate_of"), "index"));
    else if (!cli->quiet)
        show_rules(data);
    return NULL;
}

struct err *cmd_firewall_remove(struct cli *cli)
{
    autojson body = fields_of(cli);
    autojson data = NULL;
    autofree char *path = NULL;
    struct err *e = direction_path(cli, &path);

    if (e)
        return e;
    if (cli_has(cli, "all"))
        json_object_set_new(body, "all", json_true());
    if (!json_object_size(body))
        return cli_usage("say which rule by options such as --port, or --all");
    e = cli_call(cli, "DELETE", path, body, &data);
    if (!e && cli->json)
        output_json(data);
    else if (!e && !cli->quiet)
        printf("%s removed\n", output_member(data, "removed_count"));
    return e;
}

struct err *cmd_firewall_toggle(struct cli *cli)
{
    const char *to = cli->args[2];
    bool on = strcmp(to, "on") == 0;
    autojson body = fields_of(cli);
    autojson data = NULL;
    autofree char *path = NULL;
    struct err *e = direction_path(cli, &path);

    if (!e && !on && strcmp(to, "off") != 0)
        e = cli_usage("'%s' is neither on nor off", to);
    if (e)
        return e;
    json_object_set_new(body, "state", json_string(on ? "enabled" : "disabled"));
    e = cli_call(cli, "PATCH", path, body, &data);
    if (!e && cli->json)
        output_json(data);
    else if (!e && !cli->quiet)
        printf("the rule is %s\n", output_member(data, "new_state"));
    return e;
}

struct err *cmd_firewall_reset(struct cli *cli)
{
    autofree char *path = NULL;
    autojson data = NULL;
    struct err *e = firewall_path(cli, "reset", &path);

    if (!e)
        e = cli_call(cli, "POST", path, NULL, &data);
    if (!e && cli->json)
        output_json(data);
    else if (!e && !cli->quiet)
        printf("all rules are removed, everything is allowed\n");
    return e;
}
