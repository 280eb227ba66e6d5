/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Configuration text in ini form: "[section]", "key = value", comments from '#' or ';' at the line start. Keys are
 * looked up in a table of rows; an unknown section or key, a repeated key or a bad value is an error with its line
 * number.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

enum ini_kind {
    INI_STRING, /* char * */
    INI_INT,    /* int64_t, min..max */
    INI_SIZE,   /* int64_t bytes; K, M, G, T suffixes (1024) */
    INI_BOOL,   /* bool: yes/no, true/false, on/off, 1/0 */
    INI_LIST,   /* char **, NULL-terminated; blank or comma separated */
};

struct ini_row {
    const char *section, *key;
    enum ini_kind kind;
    size_t offset;
    int64_t min, max;
    const char *initial; /* text of the default; NULL = leave the member zero */
    const char *help;    /* one sentence; the shipped example and the man page are checked against it */
};

/* Sets every default, then applies `text`. `name` is used in messages. On error *out holds freeable values. */
MUST_USE struct err *ini_load(const struct ini_row *rows, size_t count, const char *name, const char *text, void *out);
void ini_clear(const struct ini_row *rows, size_t count, void *out);
/* Prints a commented example of all rows with their defaults; the caller frees it. */
char *ini_example(const struct ini_row *rows, size_t count);
