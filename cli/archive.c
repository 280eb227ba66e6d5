/* SPDX-License-Identifier: Apache-2.0 */
/* A container as one file: out of a node, and into one. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "base/str.h"
#include "cli/cli.h"
#include "cli/output.h"

static struct err *export_path(struct cli *cli, char **ret)
{
    autofree char *id = NULL,
                  *snapshot = client_escape_value(cli_has(cli, "snapshot") ? cli_value(cli, "snapshot") : "");
    autofree char *format = client_escape_value(cli_has(cli, "format") ? cli_value(cli, "format") : "tar");
    struct err *e = cli_find(cli, cli_arg(cli, 0), &id);

    if (!e)
        *ret = str_fmt("/api/v1/containers/%s/export?format=%s&snapshots=%s%s%s", id, format,
                       cli_has(cli, "snapshots") ? "true" : "false", *snapshot ? "&snapshot=" : "", snapshot);
    return e;
}

/* Into a file that has its name only when it is whole. */
static struct err *download_file(struct cli *cli, const char *path, const char *file)
{
    autofree char *part = str_fmt("%s.part", file);
    autofd int fd = open(part, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    struct err *e;

    if (fd < 0)
        return err_errno(errno, "'%s'", part);
    e = client_download(cli->client, path, fd);
    if (!e && fsync(fd) < 0)
        e = err_errno(errno, "'%s'", part);
    if (!e && rename(part, file) < 0)
        e = err_errno(errno, "'%s'", file);
    if (e)
        (void)unlink(part);
    return e;
}

struct err *cmd_export(struct cli *cli)
{
    const char *file = cli_arg(cli, 1);
    autofree char *path = NULL;
    struct err *e;

    if (!file && isatty(STDOUT_FILENO))
        return cli_usage("name a file, or send the output to one");
    e = export_path(cli, &path);
    if (!e)
        e = cli_connect(cli);
    if (e)
        return e;
    return file && !str_eq(file, "-") ? download_file(cli, path, file)
                                      : client_download(cli->client, path, STDOUT_FILENO);
}

struct err *cmd_import(struct cli *cli)
{
    const char *file = cli_arg(cli, 0), *name = cli_arg(cli, 1), *id = cli_value(cli, "id");
    autofree char *project = NULL, *escaped = client_escape_value(name ? name : ""), *path = NULL, *start = NULL;
    autofd int fd = str_eq(file, "-") ? dup(STDIN_FILENO) : open(file, O_RDONLY | O_CLOEXEC);
    autojson data = NULL;
    struct err *e = fd < 0 ? err_errno(errno, "'%s'", file) : cli_connect(cli);

    if (!e && cli_has(cli, "project"))
        e = cli_find_project(cli, cli_value(cli, "project"), &project);
    if (e)
        return e;
    path = str_fmt("/api/v1/projects/%s/containers/import?%s%s%s%s%s", project ? project : CLI_DEFAULT_PROJECT,
                   name ? "name=" : "", escaped, name && id ? "&" : "", id ? "id=" : "", id ? id : "");
    e = client_upload(cli->client, path, fd, -1, &data);
    if (!e && cli_has(cli, "start")) {
        start = str_fmt("/api/v1/containers/%s/start", output_member(data, "id"));
        e = cli_call(cli, "POST", start, NULL, NULL);
    }
    if (e)
        return e;
    if (cli->json)
        output_json(data);
    else
        printf("%s%s%s\n", output_member(data, "id"), cli->quiet ? "" : " ",
               cli->quiet ? "" : output_member(data, "name"));
    return NULL;
}
