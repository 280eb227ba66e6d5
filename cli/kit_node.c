/* SPDX-License-Identifier: Apache-2.0 */
/* The kits of a node. */
#include <stdio.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/str.h"
#include "cli/cli.h"
#include "cli/list.h"
#include "provisioning/bundle.h"

#define KITS "/api/v1/node/kits"
#define BUNDLE_MAX ((size_t)BUNDLE_PAYLOAD_MAX + (1 << 20))

static char *ports_of(const json_t *kit)
{
    char *all = str_dup("");
    const json_t *service;
    size_t i;

    json_array_foreach(json_object_get(kit, "services"), i, service)
    {
        json_int_t last = json_integer_value(json_object_get(service, "port_last"));
        char *longer = str_fmt("%s%s%s:%lld", all, i ? " " : "", output_member(service, "slug"),
                               (long long)json_integer_value(json_object_get(service, "port")));

        free(all);
        all = last ? str_fmt("%s-%lld", longer, (long long)last) : str_dup(longer);
        free(longer);
    }
    return all;
}

static void list_row(struct table *t, const json_t *kit)
{
    autofree char *ports = ports_of(kit);

    table_row(t, output_member(kit, "name"), output_member(kit, "version"),
              json_is_true(json_object_get(kit, "in_suite")) ? "yes" : "-", output_member(kit, "containers"), ports);
}

struct err *cmd_kit_list(struct cli *cli)
{
    static const char *const headers[] = {"KIT", "VERSION", "SUITE", "CONTAINERS", "SERVICES", NULL};
    static const struct cli_list list = {.member = "kits",
                                         .whole = true,
                                         .name = "name",
                                         .headers = headers,
                                         .row = list_row,
                                         .empty = "There are no kits."};

    return cli_list(cli, KITS, &list);
}

/* *ret: whether the target is there, with the same content. */
static struct err *compare(const char *target, const char *data, size_t len, bool *ret)
{
    autofree char *there = NULL;
    size_t there_len = 0;
    struct err *e = fd_read_file(target, BUNDLE_MAX, &there, &there_len);

    *ret = !e;
    if (e && e->code == ERR_NOT_FOUND) {
        err_free(e);
        return NULL;
    }
    if (!e && (there_len != len || memcmp(there, data, len) != 0))
        e = err_new(ERR_CONFLICT, "'%s' is there already, with other content: remove that kit first", target);
    return e;
}

/* The node reads bundles in its own directory only. *ret_copied: the copy, when one was made. */
static struct err *bring(struct cli *cli, const char *file, const char *name, char **ret_copied)
{
    autofree char *target = NULL, *data = NULL;
    bool there = false;
    autojson kits = NULL;
    size_t len = 0;
    struct err *e = cli_call(cli, "GET", KITS, NULL, &kits);

    if (e || cli_is_remote(cli))
        return e;
    target = str_fmt("%s/%s", json_string_value(json_object_get(kits, "directory")), name);
    e = fd_read_file(file, BUNDLE_MAX, &data, &len);
    if (!e)
        e = compare(target, data, len, &there);
    if (e || there)
        return e;
    e = fd_replace_file(target, data, len, 0644);
    if (!e)
        *ret_copied = steal(&target);
    return e;
}

struct err *cmd_kit_install(struct cli *cli)
{
    const char *file = cli_arg(cli, 0), *slash = strrchr(file, '/');
    const char *name = slash ? slash + 1 : file;
    autojson body = json_pack("{s:s}", "file", name);
    autofree char *copied = NULL;
    autojson kit = NULL;
    struct err *e = bring(cli, file, name, &copied);

    if (!e)
        e = cli_call(cli, "POST", KITS, body, &kit);
    if (e && copied)
        (void)unlink(copied);
    if (e)
        return e;
    if (cli->json)
        output_json(kit);
    else if (!cli->quiet)
        printf("kit %s %s\n", output_member(kit, "name"), output_member(kit, "version"));
    return NULL;
}

struct err *cmd_kit_remove(struct cli *cli)
{
    autofree char *name = client_escape(cli_arg(cli, 0)), *version = client_escape(cli_arg(cli, 1));
    autofree char *path = str_fmt(KITS "/%s/%s", name, version);

    return cli_call(cli, "DELETE", path, NULL, NULL);
}
