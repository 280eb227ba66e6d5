/* SPDX-License-Identifier: Apache-2.0 */
#include "base/ini.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>

#include "base/str.h"

static char *trim(char *s)
{
    char *end;

    while (isspace((unsigned char)*s))
        s++;
    end = s + strlen(s);
    while (end > s && isspace((unsigned char)end[-1]))
        end--;
    *end = '\0';
    return s;
}

static void list_free(char **list)
{
    for (char **p = list; p && *p; p++)
        free(*p);
    free(list);
}

static char **list_parse(const char *text)
{
    autofree char *copy = str_dup(text);
    char **list = mem_new_array(char *, 1);
    char *save = NULL;
    size_t n = 0;

    for (char *word = strtok_r(copy, " ,\t", &save); word; word = strtok_r(NULL, " ,\t", &save)) {
        list = mem_grow(list, n + 2, sizeof(*list));
        list[n++] = str_dup(word);
        list[n] = NULL;
    }
    return list;
}

static bool bool_parse(const char *text, bool *ret)
{
    static const char *const yes[] = {"yes", "true", "on", "1"}, *const no[] = {"no", "false", "off", "0"};

    for (size_t i = 0; i < ARRAY_LEN(yes); i++) {
        if (strcmp(text, yes[i]) == 0 || strcmp(text, no[i]) == 0) {
            *ret = strcmp(text, yes[i]) == 0;
            return true;
        }
    }
    return false;
}

static struct err *set_value(const struct ini_row *row, const char *value, void *out)
{
    void *p = (char *)out + row->offset;
    int64_t n = 0;

    switch (row->kind) {
    case INI_STRING:
        str_set(p, *value ? value : NULL);
        return NULL;
    case INI_LIST:
        list_free(*(char ***)p);
        *(char ***)p = list_parse(value);
        return NULL;
    case INI_BOOL:
        return bool_parse(value, p) ? NULL : err_new(ERR_INVALID, "'%s' must be yes or no", row->key);
    case INI_INT:
    case INI_SIZE:
        if (!(row->kind == INI_INT ? str_to_i64(value, &n) : str_to_size(value, &n)))
            return err_new(ERR_INVALID, "'%s' must be a %s, not '%s'", row->key,
                           row->kind == INI_INT ? "number" : "size such as 512M", value);
        if ((row->min || row->max) && (n < row->min || n > row->max))
            return err_new(ERR_INVALID, "'%s' must be %" PRId64 "..%" PRId64, row->key, row->min, row->max);
        *(int64_t *)p = n;
        return NULL;
    }
    abort();
}

static const struct ini_row *find_row(const struct ini_row *rows, size_t count, const char *section, const char *key)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(rows[i].section, section) == 0 && (!key || strcmp(rows[i].key, key) == 0))
            return &rows[i];
    return NULL;
}

struct parse {
    const struct ini_row *rows;
    size_t count;
    char *section;
    bool *seen;
    void *out;
};

static struct err *parse_line(struct parse *p, char *line)
{
    const struct ini_row *row;
    char *equals;

    line = trim(line);
    if (!*line || *line == '#' || *line == ';')
        return NULL;
    if (*line == '[') {
        char *end = strchr(line, ']');

        if (!end || end[1])
            return err_new(ERR_INVALID, "a section is written [name]");
        *end = '\0';
        if (!find_row(p->rows, p->count, line + 1, NULL))
            return err_new(ERR_INVALID, "there is no section '%s'", line + 1);
        str_set(&p->section, line + 1);
        return NULL;
    }
    equals = strchr(line, '=');
    if (!equals)
        return err_new(ERR_INVALID, "a line is 'key = value', a [section] or a # comment");
    *equals = '\0';
    line = trim(line);
    row = p->section ? find_row(p->rows, p->count, p->section, line) : NULL;
    if (!row)
        return err_new(ERR_INVALID, "section '%s' has no key '%s'", p->section ? p->section : "", line);
    if (p->seen[row - p->rows])
        return err_new(ERR_INVALID, "'%s' is set twice", line);
    p->seen[row - p->rows] = true;
    return set_value(row, trim(equals + 1), p->out);
}

struct err *ini_load(const struct ini_row *rows, size_t count, const char *name, const char *text, void *out)
{
    autofree char *copy = str_dup(text);
    autofree bool *seen = mem_new_array(bool, count);
    struct parse p = {.rows = rows, .count = count, .seen = seen, .out = out};
    struct err *e = NULL;
    int number = 0;

    for (size_t i = 0; !e && i < count; i++)
        if (rows[i].initial)
            e = err_wrap(set_value(&rows[i], rows[i].initial, out), "default");
    for (char *line = copy, *next; !e && line; line = next) {
        next = strchr(line, '\n');
        if (next)
            *next++ = '\0';
        number++;
        e = err_wrap(parse_line(&p, line), "%s:%d", name, number);
    }
    free(p.section);
    return e;
}

void ini_clear(const struct ini_row *rows, size_t count, void *out)
{
    for (size_t i = 0; i < count; i++) {
        void *p = (char *)out + rows[i].offset;

        if (rows[i].kind == INI_STRING) {
            free(*(char **)p);
            *(char **)p = NULL;
        } else if (rows[i].kind == INI_LIST) {
            list_free(*(char ***)p);
            *(char ***)p = NULL;
        }
    }
}

char *ini_example(const struct ini_row *rows, size_t count)
{
    char *text = NULL;
    size_t len;
    FILE *f = open_memstream(&text, &len);

    if (!f)
        abort();
    for (size_t i = 0; i < count; i++) {
        if (i == 0 || strcmp(rows[i].section, rows[i - 1].section) != 0)
            fprintf(f, "%s[%s]\n", i ? "\n" : "", rows[i].section);
        fprintf(f, "# %s\n#%s =%s%s\n", rows[i].help, rows[i].key, str_empty(rows[i].initial) ? "" : " ",
                rows[i].initial ? rows[i].initial : "");
    }
    fclose(f);
    return text;
}
