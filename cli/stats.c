/* SPDX-License-Identifier: Apache-2.0 */
/* What a container uses, and what runs in it. */
#include "base/str.h"
#include "cli/cli.h"
#include "cli/output.h"

static void line_bytes(const char *label, const json_t *object, const char *member)
{
    const json_t *v = json_object_get(object, member);
    char text[16];

    output_line(label, json_is_integer(v) ? output_bytes(json_integer_value(v), text) : NULL);
}

static void line_percent(const char *label, const json_t *object)
{
    const json_t *v = json_object_get(object, "usage_percent");
    autofree char *text = json_is_number(v) ? str_fmt("%.1f %%", json_number_value(v)) : NULL;

    output_line(label, text);
}

static void show_network(const json_t *list)
{
    const json_t *n, *address;
    size_t i, k;

    json_array_foreach((json_t *)(uintptr_t)list, i, n)
    {
        const json_t *counters = json_object_get(n, "counters");

        output_line("Interface", output_member(n, "interface"));
        output_line("  state", output_member(n, "state"));
        json_array_foreach(json_object_get(n, "addresses"), k, address)
            output_line("  address", output_member(address, "address"));
        line_bytes("  received", counters, "bytes_received");
        line_bytes("  sent", counters, "bytes_sent");
        output_line("  dropped in", output_member(counters, "packets_dropped_inbound"));
        output_line("  dropped out", output_member(counters, "packets_dropped_outbound"));
    }
}

struct err *cmd_stats(struct cli *cli)
{
    autofree char *id = NULL, *path = NULL;
    autojson data = NULL;
    struct err *e = cli_find(cli, cli_arg(cli, 0), &id);
    const json_t *memory;

    if (e)
        return e;
    path = str_fmt("/api/v1/containers/%s/stats", id);
    e = cli_show(cli, path, &data);
    if (e || !data)
        return e;
    memory = json_object_get(data, "memory");
    output_line("Status", output_member(data, "status"));
    output_line("Started", output_member(data, "started_at"));
    output_line("Processes", output_member(data, "processes"));
    line_percent("CPU", json_object_get(data, "cpu"));
    line_bytes("Memory", memory, "usage");
    line_bytes("  peak", memory, "usage_peak");
    line_percent("  of total", memory);
    line_bytes("Swap", memory, "swap_usage");
    line_bytes("Disk", json_object_get(json_object_get(data, "disk"), "root"), "usage");
    line_bytes("Ramdisk", json_object_get(json_object_get(data, "ramdisk"), "usage"), "private");
    show_network(json_object_get(data, "network"));
    return NULL;
}

struct err *cmd_runtime(struct cli *cli)
{
    static const char *const unit_headers[] = {"SERVICE", "ACTIVE", "STATE", "PID", "DESCRIPTION", NULL};
    static const char *const socket_headers[] = {"PROTOCOL", "ADDRESS", "PORT", "PID", "USER", "PROGRAM", NULL};
    autofree char *id = NULL, *path = NULL;
    autojson data = NULL;
    struct err *e = cli_find(cli, cli_arg(cli, 0), &id);
    const json_t *info, *row;
    struct table *t;
    size_t i;

    if (e)
        return e;
    path = str_fmt("/api/v1/containers/%s?runtime=true", id);
    e = cli_call(cli, "GET", path, NULL, &data);
    if (e)
        return e;
    info = json_object_get(data, "runtime_info");
    if (cli->json) {
        output_json(info);
        return NULL;
    }
    if (!json_is_object(info))
        return err_new(ERR_WRONG_STATE, "'%s' does not run, or cannot be looked into", cli_arg(cli, 0));
    t = table_new(unit_headers);
    json_array_foreach(json_object_get(info, "services"), i, row)
        table_row(t, output_member(row, "name"), output_member(row, "active"), output_member(row, "sub"),
                  output_member(row, "pid"), output_member(row, "description"));
    table_print(t, "Its systemd does not answer.");
    t = table_new(socket_headers);
    json_array_foreach(json_object_get(info, "network_services"), i, row)
        table_row(t, output_member(row, "protocol"), output_member(row, "ip"), output_member(row, "port"),
                  output_member(row, "pid"), output_member(row, "user"), output_member(row, "program"));
    table_print(t, "Nothing listens.");
    return NULL;
}
