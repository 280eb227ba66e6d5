/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/list.h"

#include <stdio.h>

#include "base/str.h"

enum { PAGE = 100 };

static void print(const struct cli *cli, json_t *items, const struct cli_list *list)
{
    struct table *t = cli->quiet ? NULL : table_new(list->headers);
    size_t count = json_array_size(items);

    for (size_t i = 0; i < count; i++) {
        const json_t *item = json_array_get(items, list->newest_first ? count - 1 - i : i);

        if (t)
            list->row(t, item);
        else if (list->name)
            printf("%s\n", output_member(item, list->name));
    }
    if (t)
        table_print(t, list->empty);
}

void cli_list_items(const struct cli *cli, const json_t *data, const struct cli_list *list)
{
    json_t *items = list->member ? json_object_get(data, list->member) : (json_t *)(uintptr_t)data;

    if (cli->json)
        output_json(list->whole ? data : items);
    else
        print(cli, items, list);
}

struct err *cli_list(struct cli *cli, const char *path, const struct cli_list *list)
{
    autojson data = NULL;
    struct err *e = cli_call(cli, "GET", path, NULL, &data);

    if (!e)
        cli_list_items(cli, data, list);
    return e;
}

struct err *cli_fetch_pages(struct cli *cli, const char *path, const char *member, json_t *ret)
{
    struct err *e = NULL;
    bool more = true;

    for (int page = 1; !e && more; page++) {
        autofree char *whole = str_fmt("%s%cpage=%d&limit=%d", path, strchr(path, '?') ? '&' : '?', page, PAGE);
        autojson data = NULL;
        json_t *items;

        e = cli_call(cli, "GET", whole, NULL, &data);
        items = json_object_get(data, member);
        more = json_array_size(items) == PAGE;
        if (items)
            json_array_extend(ret, items);
    }
    return e;
}

struct err *cli_list_pages(struct cli *cli, const char *path, const struct cli_list *list)
{
    autojson items = json_array();
    struct err *e = cli_fetch_pages(cli, path, list->member, items);

    if (e)
        return e;
    if (cli->json)
        output_json(items);
    else
        print(cli, items, list);
    return NULL;
}
