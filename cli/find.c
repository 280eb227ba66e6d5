/* SPDX-License-Identifier: Apache-2.0 */
/* From what a person types to a container's id. */
#include "base/str.h"
#include "cli/cli.h"

#define PREFIX_MIN 3

static bool is_prefix(const char *text, const char *id)
{
    size_t len = strlen(text);

    return len >= PREFIX_MIN && len < 24 && strspn(text, "0123456789abcdef") == len && strncmp(id, text, len) == 0;
}

struct search {
    const char *text;
    char *by_name, *by_prefix;
    int names, prefixes;
};

static void look(struct search *s, const json_t *containers)
{
    const json_t *c;
    size_t i;

    json_array_foreach((json_t *)(uintptr_t)containers, i, c)
    {
        const char *id = json_string_value(json_object_get(c, "id"));

        if (str_eq(json_string_value(json_object_get(c, "name")), s->text) && ++s->names)
            str_set(&s->by_name, id);
        else if (id && is_prefix(s->text, id) && ++s->prefixes)
            str_set(&s->by_prefix, id);
    }
}

static struct err *search_all(struct cli *cli, struct search *s)
{
    struct err *e = NULL;
    bool more = true;

    for (int page = 1; !e && more; page++) {
        autofree char *path = str_fmt("/api/v1/containers/?page=%d&limit=100", page);
        autojson data = NULL;
        const json_t *list;

        e = cli_call(cli, "GET", path, NULL, &data);
        list = json_object_get(data, "containers");
        look(s, list);
        more = json_array_size(list) == 100;
    }
    return e;
}

struct err *cli_find(struct cli *cli, const char *text, char **ret_id)
{
    struct search s = {.text = text};
    struct err *e;

    if (str_is_object_id(text)) {
        *ret_id = str_dup(text);
        return NULL;
    }
    e = search_all(cli, &s);
    if (!e && s.names == 1)
        *ret_id = steal(&s.by_name);
    else if (!e && s.names == 0 && s.prefixes == 1)
        *ret_id = steal(&s.by_prefix);
    else if (!e && s.names > 1)
        e = err_new(ERR_NOT_FOUND, "%d containers have the name '%s': use the id, 'nodectl list' shows it", s.names,
                    text);
    else if (!e && s.prefixes > 1)
        e = err_new(ERR_NOT_FOUND, "%d ids begin with '%s': type more of it", s.prefixes, text);
    else if (!e)
        e = err_new(ERR_NOT_FOUND, "there is no container '%s': 'nodectl list' shows what is there", text);
    free(s.by_name);
    free(s.by_prefix);
    return e;
}
