/* SPDX-License-Identifier: Apache-2.0 */
/* What happened: the history, and what happens now. */
#include <stdio.h>
#include <time.h>

#include "base/str.h"
#include "cli/cli.h"
#include "cli/list.h"

enum { TRIES = 30, PAUSE_S = 2 };

/* "NAME=VALUE&..." of the options that are filters, and an end that is open for more. */
static struct err *filters(struct cli *cli, char **ret)
{
    static const struct {
        const char *option, *name;
    } plain[] = {{"type", "event_type"}, {"since", "start_date"}, {"until", "end_date"}};
    autofree char *query = str_dup(""), *id = NULL;
    const char *container = cli_value(cli, "container"), *project = cli_value(cli, "project");
    struct err *e = container ? cli_find(cli, container, &id) : NULL;

    if (!e && container) {
        free(query);
        query = str_fmt("container_id=%s&", id);
    }
    if (!e && project) {
        autofree char *project_id = NULL, *before = steal(&query);

        e = cli_find_project(cli, project, &project_id);
        query = str_fmt("%sproject_id=%s&", before, project_id ? project_id : "");
    }
    for (size_t i = 0; !e && i < ARRAY_LEN(plain); i++) {
        const char *value = cli_value(cli, plain[i].option);

        if (value) {
            autofree char *escaped = client_escape(value), *before = steal(&query);

            query = str_fmt("%s%s=%s&", before, plain[i].name, escaped);
        }
    }
    *ret = steal(&query);
    return e;
}

/* What the payload says in a word or two. */
static char *gist_of(const json_t *event)
{
    static const char *const members[] = {"operation", "to_status",    "snapshot_name",
                                          "direction", "command_slug", "name"};
    const json_t *payload = json_object_get(event, "payload"), *error = json_object_get(payload, "error");
    const char *message = json_string_value(json_object_get(error, "message"));

    for (size_t i = 0; i < ARRAY_LEN(members); i++) {
        const char *text = json_string_value(json_object_get(payload, members[i]));

        if (text)
            return message ? str_fmt("%s: %s", text, message) : str_dup(text);
    }
    return str_dup(message ? message : "");
}

struct follower {
    struct cli *cli;
    char *id, *event;
    bool any; /* the connection was there */
};

static void show(const struct follower *f, const char *text)
{
    autojson event = json_loads(text, 0, NULL);
    autofree char *gist = gist_of(event);

    if (f->cli->json)
        printf("%s\n", text);
    else if (f->cli->quiet)
        printf("%s\n", output_member(event, "id"));
    else
        printf("%s  %-32s %s  %s\n", output_member(event, "created_at"), output_member(event, "event_type"),
               output_member(event, "resource_id"), gist);
    (void)fflush(stdout);
}

/* A line of text/event-stream. */
static void on_line(void *owner, const char *line)
{
    struct follower *f = owner;

    f->any = true;
    if (strncmp(line, "id: ", 4) == 0)
        str_set(&f->id, line + 4);
    else if (strncmp(line, "event: ", 7) == 0)
        str_set(&f->event, line + 7);
    else if (strncmp(line, "data: ", 6) == 0 && str_eq(f->event, "expired"))
        fprintf(stderr, "nodectl: some events are not kept any more\n");
    else if (strncmp(line, "data: ", 6) == 0 && !str_eq(f->event, "lagged"))
        show(f, line + 6);
}

/* The node may be restarted meanwhile: the last event's place tells where to go on. */
static struct err *follow(struct cli *cli, const char *query)
{
    autofree char *path = str_fmt("/api/v1/events/stream?%s", query);
    struct follower f = {.cli = cli};
    struct err *e = cli_connect(cli);

    for (int failed = 0; !e && failed < TRIES;) {
        const struct timespec pause = {.tv_sec = PAUSE_S};
        bool before = f.any;

        f.any = false;
        e = client_follow(cli->client, path, f.id, &f, on_line);
        failed = f.any ? 0 : failed + 1;
        if (e && (before || f.any) && e->code == ERR_UNAVAILABLE && failed < TRIES) {
            err_free(e);
            e = NULL;
            f.any = true;
        }
        if (!e)
            (void)nanosleep(&pause, NULL);
    }
    free(f.id);
    free(f.event);
    return e;
}

static void row(struct table *t, const json_t *event)
{
    autofree char *gist = gist_of(event);

    table_row(t, output_member(event, "created_at"), output_member(event, "event_type"),
              output_member(event, "resource_id"), gist);
}

static struct err *list_events(struct cli *cli, const char *query)
{
    static const char *const headers[] = {"TIME", "TYPE", "ABOUT", "WHAT", NULL};
    static const struct cli_list list = {.member = "events",
                                         .newest_first = true,
                                         .name = "id",
                                         .headers = headers,
                                         .row = row,
                                         .empty = "Nothing has happened."};
    const char *limit = cli_value(cli, "limit");
    autofree char *escaped = client_escape(limit ? limit : "50");
    autofree char *path = str_fmt("/api/v1/events?%slimit=%s", query, escaped);

    return cli_list(cli, path, &list);
}

struct err *cmd_events(struct cli *cli)
{
    autofree char *query = NULL;
    struct err *e = filters(cli, &query);

    if (e)
        return e;
    if (cli_has(cli, "follow") && (cli_has(cli, "since") || cli_has(cli, "until") || cli_has(cli, "limit")))
        return cli_usage("--follow: shows what happens from now on, without --since, --until and --limit");
    return cli_has(cli, "follow") ? follow(cli, query) : list_events(cli, query);
}
