/* SPDX-License-Identifier: Apache-2.0 */
/* From what a person types to the id of a container or a project. */
#include "base/str.h"
#include "cli/list.h"

#define PREFIX_MIN 3

static bool is_prefix(const char *text, const char *id)
{
    size_t len = strlen(text);

    return len >= PREFIX_MIN && len < 24 && strspn(text, "0123456789abcdef") == len && strncmp(id, text, len) == 0;
}

/* What is looked for, and where. */
struct kind {
    const char *noun, *path, *member, *name, *list;
};
static const struct kind container = {"container", "/api/v1/containers/", "containers", "name", "list"};
static const struct kind project = {"project", "/api/v1/projects/", "projects", "alias", "project list"};

struct search {
    const struct kind *kind;
    const char *text;
    char *by_name, *by_prefix;
    int names, prefixes;
};

static void look(struct search *s, const json_t *list)
{
    const json_t *c;
    size_t i;

    json_array_foreach((json_t *)(uintptr_t)list, i, c)
    {
        const char *id = json_string_value(json_object_get(c, "id"));

        if (str_eq(json_string_value(json_object_get(c, s->kind->name)), s->text) && ++s->names)
            str_set(&s->by_name, id);
        else if (id && is_prefix(s->text, id) && ++s->prefixes)
            str_set(&s->by_prefix, id);
    }
}

static struct err *search_all(struct cli *cli, struct search *s)
{
    autojson items = json_array();
    struct err *e = cli_fetch_pages(cli, s->kind->path, s->kind->member, items);

    look(s, items);
    return e;
}

static struct err *find(struct cli *cli, const struct kind *kind, const char *text, char **ret_id)
{
    struct search s = {.kind = kind, .text = text};
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
        e = err_new(ERR_NOT_FOUND, "%d %ss have the name '%s': use the id, 'nodectl %s' shows it", s.names, kind->noun,
                    text, kind->list);
    else if (!e && s.prefixes > 1)
        e = err_new(ERR_NOT_FOUND, "%d ids begin with '%s': type more of it", s.prefixes, text);
    else if (!e)
        e = err_new(ERR_NOT_FOUND, "there is no %s '%s': 'nodectl %s' shows what is there", kind->noun, text,
                    kind->list);
    free(s.by_name);
    free(s.by_prefix);
    return e;
}

struct err *cli_find(struct cli *cli, const char *text, char **ret_id)
{
    return find(cli, &container, text, ret_id);
}

struct err *cli_find_project(struct cli *cli, const char *text, char **ret_id)
{
    return find(cli, &project, text, ret_id);
}
