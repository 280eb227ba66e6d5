/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/output.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/mem.h"
#include "base/str.h"

enum { COLUMNS_MAX = 10, TEXTS = 8 };

struct table {
    const char *const *headers;
    int columns;
    size_t width[COLUMNS_MAX];
    char **cells;
    size_t rows;
};

struct table *table_new(const char *const *headers)
{
    struct table *t = mem_new(struct table);

    t->headers = headers;
    while (t->columns < COLUMNS_MAX && headers[t->columns]) {
        t->width[t->columns] = strlen(headers[t->columns]);
        t->columns++;
    }
    return t;
}

static char *printable(const char *s)
{
    char *copy = str_dup(s && *s ? s : "-");

    for (char *p = copy; *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            *p = '?';
    return copy;
}

void table_row(struct table *t, ...)
{
    size_t columns = (size_t)t->columns;
    va_list ap;

    t->cells = mem_grow(t->cells, (t->rows + 1) * columns, sizeof(*t->cells));
    va_start(ap, t);
    for (size_t i = 0; i < columns; i++) {
        char *cell = printable(va_arg(ap, const char *));

        t->width[i] = MAX(t->width[i], strlen(cell));
        t->cells[t->rows * columns + i] = cell;
    }
    va_end(ap);
    t->rows++;
}

static void print_row(const struct table *t, const char *const *cells)
{
    for (int i = 0; i < t->columns; i++) {
        if (i + 1 < t->columns)
            printf("%-*s  ", (int)t->width[i], cells[i]);
        else
            printf("%s\n", cells[i]);
    }
}

void table_print(struct table *t, const char *empty)
{
    size_t columns = (size_t)t->columns;

    if (t->rows)
        print_row(t, t->headers);
    else
        fprintf(stderr, "%s\n", empty);
    for (size_t r = 0; r < t->rows; r++)
        print_row(t, (const char *const *)t->cells + r * columns);
    for (size_t i = 0; i < t->rows * columns; i++)
        free(t->cells[i]);
    free(t->cells);
    free(t);
}

const char *output_bytes(int64_t bytes, char ret[16])
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    double v = (double)bytes;
    size_t u = 0;

    while (v >= 1024 && u + 1 < ARRAY_LEN(units)) {
        v /= 1024;
        u++;
    }
    snprintf(ret, 16, u ? "%.1f %s" : "%.0f %s", v, units[u]);
    return ret;
}

void output_line(const char *name, const char *value)
{
    autofree char *label = str_fmt("%s:", name), *text = printable(value);

    printf("%-18s %s\n", label, text);
}

const char *output_member(const json_t *object, const char *name)
{
    static char texts[TEXTS][32];
    static unsigned next;
    const json_t *v = json_object_get(object, name);
    char *text = texts[next++ % TEXTS];

    if (json_is_string(v))
        return json_string_value(v);
    if (json_is_boolean(v))
        return json_is_true(v) ? "yes" : "no";
    if (json_is_integer(v)) {
        snprintf(text, sizeof(texts[0]), "%lld", (long long)json_integer_value(v));
        return text;
    }
    if (json_is_real(v)) {
        snprintf(text, sizeof(texts[0]), "%.1f", json_real_value(v));
        return text;
    }
    return "-";
}

void output_json(const json_t *j)
{
    if (j)
        json_dumpf(j, stdout, JSON_INDENT(2) | JSON_ENCODE_ANY);
    else
        printf("null");
    putchar('\n');
}
