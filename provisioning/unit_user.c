/* SPDX-License-Identifier: Apache-2.0 */
/* Whether the units of a kit run as whom its manifest says. */
#include <stdio.h>

#include "base/str.h"
#include "provisioning/bundle.h"
#include "provisioning/confined.h"

#define UNIT_MAX ((size_t)64 * 1024)

/* What follows "KEY=" on this line, without blanks around; NULL: it is none of that key. */
static const char *setting(char *line, const char *key)
{
    size_t len = strlen(key), end;

    line += strspn(line, " \t");
    if (strncmp(line, key, len) != 0)
        return NULL;
    line += len + strspn(line + len, " \t");
    if (*line != '=')
        return NULL;
    line += 1 + strspn(line + 1, " \t");
    for (end = strlen(line); end > 0 && strchr(" \t\r", line[end - 1]); end--)
        line[end - 1] = '\0';
    return line;
}

static bool is_yes(const char *s)
{
    return str_eq(s, "yes") || str_eq(s, "true") || str_eq(s, "on") || str_eq(s, "1");
}

/* As systemd reads it: the last one counts, a line that ends in '\' goes on in the next one. NULL: no account of the
 * container (DynamicUser=). The caller frees it; text is changed. */
static char *user_of(char *text)
{
    autofree char *user = str_dup("root");
    bool in_service = false, continued = false, dynamic = false;
    char *rest = text, *line;

    while ((line = strsep(&rest, "\n"))) {
        size_t len = strlen(line);
        bool begins = !continued && line[0] != '#' && line[0] != ';';
        const char *value;

        continued = (begins || continued) && len > 0 && line[len - 1] == '\\';
        if (begins && line[0] == '[')
            in_service = strncmp(line, "[Service]", strlen("[Service]")) == 0;
        if (!begins || !in_service)
            continue;
        if ((value = setting(line, "User")))
            str_set(&user, *value ? value : "root");
        if ((value = setting(line, "DynamicUser")))
            dynamic = is_yes(value);
    }
    return dynamic ? NULL : steal(&user);
}

static struct err *service_unit(const struct manifest *m, const struct manifest_service *s, char **ret)
{
    *ret = manifest_answering_unit(s->unit);
    if (!json_has_string(m->units, *ret) || !strstr(*ret, ".service"))
        return err_field("services.user", "'%s' is no service of the kit that could run as '%s'", *ret, s->user);
    return NULL;
}

static struct err *check_one(int dir, const char *below, const struct manifest *m, const struct manifest_service *s)
{
    autofree char *unit = NULL, *path = NULL, *text = NULL, *user = NULL;
    struct err *e = s->user ? service_unit(m, s, &unit) : NULL;

    if (e || !s->user)
        return e;
    path = str_fmt("%s/%s", below, unit);
    e = confined_read(dir, path, UNIT_MAX, &text, NULL);
    if (e)
        return err_recode(e, ERR_INVALID);
    user = user_of(text);
    if (user && !str_eq(user, s->user))
        return err_field("services.user", "is '%s', but '%s' runs as '%s'", s->user, unit, user);
    return NULL;
}

struct err *manifest_check_users(const struct manifest *m, int dir, const char *below)
{
    const json_t *j;
    size_t i;

    json_array_foreach(m->services, i, j)
    {
        struct manifest_service s = {0};
        struct err *e = manifest_service_load(j, m, &s);

        if (!e)
            e = check_one(dir, below, m, &s);
        json_table_clear(&manifest_service_table, &s);
        if (e)
            return e;
    }
    return NULL;
}
