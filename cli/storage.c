/* SPDX-License-Identifier: Apache-2.0 */
/* The pool that the containers' disks are in. */
#include <stdio.h>

#include "base/str.h"
#include "cli/cli.h"
#include "cli/list.h"

static const char *bytes_of(const json_t *object, const char *member, char ret[16])
{
    const json_t *v = json_object_get(object, member);

    return json_is_integer(v) ? output_bytes(json_integer_value(v), ret) : NULL;
}

static void show_reclaim(const json_t *reclaim)
{
    const char *oldest = json_string_value(json_object_get(reclaim, "oldest_at"));
    char room[16];
    const char *bytes = bytes_of(reclaim, "bytes", room);
    autofree char *text =
        str_fmt("%lld wait%s%s, %lld are being reclaimed, %lld of containers' own%s%s",
                (long long)json_integer_value(json_object_get(reclaim, "trash")), oldest ? " since " : "",
                oldest ? oldest : "", (long long)json_integer_value(json_object_get(reclaim, "subvolumes")),
                (long long)json_integer_value(json_object_get(reclaim, "of_containers")), bytes ? ", " : "",
                bytes ? bytes : "");

    output_line("Deleted", text);
}

/* "running, 12.0 GiB of 40.0 GiB, 0 errors" */
static void show_scrub(const json_t *scrub)
{
    const char *state = output_member(scrub, "state"), *ended = json_string_value(json_object_get(scrub, "ended_at"));
    char done[16], total[16];
    autofree char *text = NULL;

    if (str_eq(state, "never")) {
        output_line("Scrub", state);
        return;
    }
    text = str_fmt("%s%s%s, %s of %s, %lld errors, %lld corrected", state, ended ? " " : "", ended ? ended : "",
                   bytes_of(scrub, "done_bytes", done), bytes_of(scrub, "total_bytes", total),
                   (long long)json_integer_value(json_object_get(scrub, "errors")),
                   (long long)json_integer_value(json_object_get(scrub, "corrected")));
    output_line("Scrub", text);
}

static void show_pool(const json_t *data)
{
    static const char *const kinds[] = {"write", "read", "flush", "corruption", "generation"};
    const json_t *reclaim = json_object_get(data, "reclaim"), *errors = json_object_get(data, "device_errors");
    char total[16], left[16], reserve[16];
    autofree char *room = str_fmt("%s, %s free, %s of them reserve", bytes_of(data, "total_bytes", total),
                                  bytes_of(data, "free_bytes", left), bytes_of(data, "reserve_bytes", reserve));
    json_int_t count = 0;

    for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
        count += json_integer_value(json_object_get(errors, kinds[i]));
    output_line("Pool", output_member(data, "path"));
    output_line("File", output_member(data, "loop_file"));
    output_line("State", output_member(data, "state"));
    output_line("Size", room);
    if (json_is_object(reclaim))
        show_reclaim(reclaim);
    show_scrub(json_object_get(data, "scrub"));
    if (count)
        printf("%-14s %lld: see --json, and the kernel's log\n", "Device errors:", (long long)count);
    puts("");
}

static void usage_row(struct table *t, const json_t *c)
{
    char written[16], kept[16];

    table_row(t, output_member(c, "container_id"), output_member(c, "name"), bytes_of(c, "disk_bytes", written),
              output_member(c, "snapshots"), bytes_of(c, "snapshot_bytes", kept));
}

struct err *cmd_storage_show(struct cli *cli)
{
    static const char *const headers[] = {"CONTAINER", "NAME", "WRITTEN", "SNAPSHOTS", "IN SNAPSHOTS", NULL};
    static const struct cli_list list = {.member = "containers",
                                         .name = "container_id",
                                         .headers = headers,
                                         .row = usage_row,
                                         .empty = "There are no containers."};
    autojson data = NULL;
    struct err *e = cli_show(cli, "/api/v1/node/storage", &data);

    if (e || !data)
        return e;
    if (!cli->quiet)
        show_pool(data);
    cli_list_items(cli, data, &list);
    return NULL;
}

struct err *cmd_storage_grow(struct cli *cli)
{
    autojson body = NULL;
    autojson data = NULL;
    char total[16], left[16];
    int64_t bytes;
    struct err *e;

    if (!str_to_size(cli_arg(cli, 0), &bytes))
        return cli_usage("'%s' is no size such as 100G", cli_arg(cli, 0));
    body = json_pack("{s:I}", "size_bytes", (json_int_t)bytes);
    e = cli_call(cli, "POST", "/api/v1/node/storage/grow", body, &data);
    if (!e && cli->json)
        output_json(data);
    else if (!e && !cli->quiet)
        printf("%s, %s free\n", bytes_of(data, "total_bytes", total), bytes_of(data, "free_bytes", left));
    return e;
}

struct err *cmd_storage_scrub(struct cli *cli)
{
    autojson body = json_pack("{s:s}", "action", cli_arg(cli, 0));
    autojson data = NULL;
    struct err *e = cli_call(cli, "POST", "/api/v1/node/storage/scrub", body, &data);

    if (!e && cli->json)
        output_json(data);
    else if (!e && !cli->quiet)
        show_scrub(data);
    return e;
}
