/* SPDX-License-Identifier: Apache-2.0 */
/* What people read: tables with aligned columns, sizes, and machines': JSON. */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

struct table;

/* headers: NULL-terminated column names. */
struct table *table_new(const char *const *headers);
/* One row, as many texts as there are headers; NULL is shown as "-". Control characters become '?'. */
void table_row(struct table *t, ...);
/* Prints and frees. Without rows prints `empty` on stderr. */
void table_print(struct table *t, const char *empty);

/* "1.5 GiB"; ret holds 16 bytes. */
const char *output_bytes(int64_t bytes, char ret[16]);
/* "name:   value", values in one column. */
void output_line(const char *name, const char *value);
/* Member as text: strings as they are, numbers, yes/no, "-" for null. Valid until the 8th call after it. */
const char *output_member(const json_t *object, const char *name);
void output_json(const json_t *j);
