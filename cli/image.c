/* SPDX-License-Identifier: Apache-2.0 */
/* The node's images: list, import, names, removal. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>

#include "base/fd.h"
#include "base/str.h"
#include "cli/cli.h"
#include "cli/list.h"

#define IMAGES "/api/v1/node/images"

/* "debian/13 web/1" */
static char *names_of(const json_t *image)
{
    char *text = str_dup("");
    json_t *alias;
    size_t i;

    json_array_foreach(json_object_get(image, "aliases"), i, alias)
    {
        char *longer = str_fmt("%s%s%s", text, i ? " " : "", json_string_value(alias));

        free(text);
        text = longer;
    }
    return text;
}

static void list_row(struct table *t, const json_t *image)
{
    autofree char *names = names_of(image), *digest = strndup(output_member(image, "fingerprint"), 12);
    char size[16];

    table_row(t, digest, names, output_member(image, "description"),
              output_bytes(json_integer_value(json_object_get(image, "size_bytes")), size),
              output_member(image, "containers"), output_member(image, "source"));
}

struct err *cmd_image_list(struct cli *cli)
{
    static const char *const headers[] = {"FINGERPRINT", "NAMES", "DESCRIPTION", "SIZE", "CONTAINERS", "SOURCE", NULL};
    static const struct cli_list list = {.member = "images",
                                         .name = "fingerprint",
                                         .headers = headers,
                                         .row = list_row,
                                         .empty = "There are no images: 'nodectl image import' brings one."};

    return cli_list(cli, IMAGES, &list);
}

static bool matches(const json_t *image, const char *text)
{
    json_t *alias;
    size_t i;

    json_array_foreach(json_object_get(image, "aliases"), i,
                       alias) if (str_eq(json_string_value(alias), text)) return true;
    return strlen(text) >= 6 && strncmp(output_member(image, "fingerprint"), text, strlen(text)) == 0;
}

/* The path of an image given by name or by the beginning of its fingerprint. */
static struct err *image_path(struct cli *cli, const char *text, char **ret)
{
    autojson data = NULL;
    const json_t *found = NULL;
    json_t *image;
    size_t i;
    struct err *e = cli_call(cli, "GET", IMAGES, NULL, &data);

    if (e)
        return e;
    json_array_foreach(json_object_get(data, "images"), i, image)
    {
        if (!matches(image, text))
            continue;
        if (found)
            return cli_usage("'%s' is the beginning of several fingerprints", text);
        found = image;
    }
    if (!found)
        return err_new(ERR_NOT_FOUND, "there is no image '%s': 'nodectl image list' shows what is there", text);
    *ret = str_fmt(IMAGES "/%s", output_member(found, "fingerprint"));
    return NULL;
}

static void show(const struct cli *cli, const json_t *image, const char *done)
{
    autofree char *names = names_of(image);

    if (cli->json)
        output_json(image);
    else if (cli->quiet)
        printf("%s\n", output_member(image, "fingerprint"));
    else
        printf("%.12s %s%s%s\n", output_member(image, "fingerprint"), done, *names ? ": " : "", names);
}

static struct err *open_input(const char *file, int *ret)
{
    *ret = str_eq(file, "-") ? dup(STDIN_FILENO) : open(file, O_RDONLY | O_CLOEXEC);
    return *ret < 0 ? err_errno(errno, "'%s'", file) : NULL;
}

/* The query of an upload, from the options. */
static char *upload_path(const struct cli *cli, int64_t split)
{
    autofree char *aliases = str_dup(""),
                  *description = client_escape_value(cli_has(cli, "description") ? cli_value(cli, "description") : "");
    const char *fingerprint = cli_value(cli, "fingerprint");

    for (size_t n = 0; cli_nth(cli, "alias", n); n++) {
        autofree char *one = client_escape_value(cli_nth(cli, "alias", n));
        char *longer = str_fmt("%s%s%s", aliases, n ? "," : "", one);

        free(aliases);
        aliases = longer;
    }
    return str_fmt(IMAGES "/upload?aliases=%s&split_bytes=%lld%s%s%s%s", aliases, (long long)split,
                   *description ? "&description=" : "", description, fingerprint ? "&fingerprint=" : "",
                   fingerprint ? fingerprint : "");
}

struct err *cmd_image_import(struct cli *cli)
{
    const char *first = cli_arg(cli, 0), *second = cli_arg(cli, 1);
    autofd int fd = -1, fd2 = -1;
    autofree char *path = NULL;
    autojson data = NULL;
    struct stat st = {0};
    struct err *e = open_input(first, &fd);

    if (!e && second)
        e = open_input(second, &fd2);
    if (!e && second && (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)))
        e = cli_usage("of an image in two files the first one must be a file");
    if (!e)
        e = cli_connect(cli);
    if (e)
        return e;
    path = upload_path(cli, second ? st.st_size : 0);
    e = client_upload(cli->client, path, fd, fd2, &data);
    if (!e)
        show(cli, data, "imported");
    return e;
}

struct err *cmd_image_alias(struct cli *cli)
{
    autojson body = json_pack("{s:[]}", "aliases");
    autofree char *path = NULL;
    autojson data = NULL;
    struct err *e = image_path(cli, cli_arg(cli, 0), &path);

    for (size_t n = 1; cli_arg(cli, n); n++)
        json_array_append_new(json_object_get(body, "aliases"), json_string(cli_arg(cli, n)));
    if (!e)
        e = cli_call(cli, "PATCH", path, body, &data);
    if (!e)
        show(cli, data, "named");
    return e;
}

struct err *cmd_image_remove(struct cli *cli)
{
    for (size_t n = 0; cli_arg(cli, n); n++) {
        autofree char *path = NULL, *forced = NULL;
        struct err *e = image_path(cli, cli_arg(cli, n), &path);

        if (e)
            return e;
        forced = str_fmt("%s%s", path, cli_has(cli, "force") ? "?force=true" : "");
        e = cli_call(cli, "DELETE", forced, NULL, NULL);
        if (e)
            return e;
        if (!cli->quiet && !cli->json)
            printf("%s removed\n", cli_arg(cli, n));
    }
    return NULL;
}

struct err *cmd_image_prune(struct cli *cli)
{
    autojson data = NULL;
    json_t *fingerprint;
    size_t i;
    struct err *e = cli_call(cli, "POST", IMAGES "/prune", NULL, &data);

    if (e)
        return e;
    if (cli->json)
        output_json(json_object_get(data, "removed"));
    else
        json_array_foreach(json_object_get(data, "removed"), i, fingerprint)
            printf("%s\n", json_string_value(fingerprint));
    return NULL;
}

/* The task as it is now; NULL when the node does not know it any more. */
static struct err *task_now(struct cli *cli, const char *id, json_t **ret)
{
    autojson data = NULL;
    json_t *task;
    size_t i;
    struct err *e = cli_call(cli, "GET", IMAGES, NULL, &data);

    *ret = NULL;
    if (e)
        return e;
    json_array_foreach(json_object_get(data, "tasks"), i, task) if (str_eq(output_member(task, "id"), id)) *ret =
        json_incref(task);
    return *ret ? NULL : err_new(ERR_HOST, "the node has begun anew: 'nodectl image list' shows what is there");
}

static void show_progress(const json_t *task)
{
    char done[16], total[16];

    if (isatty(STDERR_FILENO))
        fprintf(stderr, "\r\033[K%s of %s", output_bytes(json_integer_value(json_object_get(task, "done_bytes")), done),
                output_bytes(json_integer_value(json_object_get(task, "total_bytes")), total));
}

struct err *cmd_image_fetch(struct cli *cli)
{
    const struct timespec pause = {.tv_nsec = 300000000};
    autojson body = json_pack("{s:s}", "image", cli_arg(cli, 0));
    autofree char *id = NULL, *path = NULL;
    autojson task = NULL;
    autojson image = NULL;
    struct err *e = cli_call(cli, "POST", IMAGES "/fetch", body, &task);

    if (!e)
        id = str_dup(output_member(task, "id"));
    while (!e && str_eq(output_member(task, "state"), "running")) {
        (void)nanosleep(&pause, NULL);
        json_decref(task);
        e = task_now(cli, id, &task);
        if (!e && !cli->quiet && !cli->json)
            show_progress(task);
    }
    if (!cli->quiet && !cli->json && isatty(STDERR_FILENO))
        fprintf(stderr, "\r\033[K");
    if (!e && str_eq(output_member(task, "state"), "failed"))
        e = err_new(ERR_HOST, "%s", output_member(task, "error"));
    if (!e)
        path = str_fmt(IMAGES "/%s", output_member(task, "fingerprint"));
    if (!e)
        e = cli_call(cli, "GET", path, NULL, &image);
    if (!e)
        show(cli, image, "fetched");
    return e;
}

struct err *cmd_image_publish(struct cli *cli)
{
    autojson body = json_pack("{s:s?, s:s?, s:[]}", "snapshot", cli_value(cli, "snapshot"), "description",
                              cli_value(cli, "description"), "aliases");
    autofree char *id = NULL, *path = NULL;
    autojson data = NULL;
    struct err *e = cli_find(cli, cli_arg(cli, 0), &id);

    for (size_t n = 0; cli_nth(cli, "alias", n); n++)
        json_array_append_new(json_object_get(body, "aliases"), json_string(cli_nth(cli, "alias", n)));
    if (!e) {
        path = str_fmt("/api/v1/containers/%s/publish", id);
        e = cli_call(cli, "POST", path, body, &data);
    }
    if (!e)
        show(cli, data, "published");
    return e;
}
