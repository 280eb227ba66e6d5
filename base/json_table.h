/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Field tables: one row per field of a struct turns JSON into the struct and back, and names the bad field. Request
 * bodies, query strings, jobs for the worker, bundle manifests and replies all go through here.
 *
 * Members: F_STRING char *, F_INT int64_t, F_BOOL bool, F_ENUM int (index into .choices), F_JSON json_t *.
 * Defaults: set the member before the load; a field that is absent (or null where .nullable) leaves it alone.
 * A null for a field that is not nullable is an error. After a failed load the struct is cleared.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

enum json_kind { JSON_KIND_STRING, JSON_KIND_INT, JSON_KIND_BOOL, JSON_KIND_ENUM, JSON_KIND_JSON };

struct json_field {
    const char *name;
    enum json_kind kind;
    size_t offset;
    bool required;
    bool nullable;
    int64_t min, max;             /* int: range; string: length in characters; both 0 = no limit */
    const char *const *choices;   /* enum: words, NULL-terminated */
    bool (*valid)(const char *s); /* string: extra test */
    json_type type;               /* json: required JSON type when has_type */
    bool has_type;
    const char *rule; /* the rule in words: "must be ..." */
    bool unhashed;    /* json_table_hash leaves it out */
};

struct json_table {
    const char *name; /* prefix of error paths, or NULL */
    const struct json_field *fields;
    size_t count;
    bool open; /* unknown fields are ignored instead of refused */
};

#define JSON_TABLE(ident, label, rows, ...)                                                                            \
    const struct json_table ident = {.name = (label), .fields = (rows), .count = ARRAY_LEN(rows), __VA_ARGS__}

#define JSON_MEMBER_OK(T, m, type_) _Generic(&((T *)0)->m, type_ * : 1, default : 0)
#define JSON_ROW_(T, m, type_, kind_, ...)                                                                             \
    {                                                                                                                  \
        .name = #m, .kind = (kind_),                                                                                   \
        .offset = offsetof(T, m) + 0 * sizeof(struct {                                                                 \
                                       _Static_assert(JSON_MEMBER_OK(T, m, type_), #m " has the wrong type");          \
                                       int x;                                                                          \
                                   }),                                                                                 \
        __VA_ARGS__                                                                                                    \
    }
#define F_STRING(T, m, ...) JSON_ROW_(T, m, char *, JSON_KIND_STRING, __VA_ARGS__)
#define F_INT(T, m, ...) JSON_ROW_(T, m, int64_t, JSON_KIND_INT, __VA_ARGS__)
#define F_BOOL(T, m, ...) JSON_ROW_(T, m, bool, JSON_KIND_BOOL, __VA_ARGS__)
#define F_ENUM(T, m, words, ...) JSON_ROW_(T, m, int, JSON_KIND_ENUM, .choices = (words), __VA_ARGS__)
#define F_JSON(T, m, ...) JSON_ROW_(T, m, json_t *, JSON_KIND_JSON, __VA_ARGS__)

/* Loads obj (must be an object; NULL means an empty one) into *out. *ret_present (may be NULL) gets a bit per row that
 * was there, null included. Errors are ERR_INVALID with the field's path; out is cleared then. */
MUST_USE struct err *json_table_load(const struct json_table *t, const json_t *obj, void *out, uint64_t *ret_present);
/* The struct as an object; NULL strings and NULL json become null. */
json_t *json_table_save(const struct json_table *t, const void *in);
/* Frees what the rows own and zeroes the members. */
void json_table_clear(const struct json_table *t, void *out);

/* Strict text to JSON value (duplicates refused). what names the text in the error: "body". */
MUST_USE struct err *json_parse(const char *text, size_t len, const char *what, json_t **ret);

/* The first `max` bytes of a text as a JSON string; each byte that is not part of UTF-8 becomes '?'. A NULL becomes
 * null. For what a container named: JSON holds UTF-8 alone, and jansson makes no value of a text that is not. */
json_t *json_text(const char *text, size_t max);

/* Whether the array (NULL: none) has that string. */
bool json_has_string(const json_t *array, const char *text);

static inline void json_decrefp_(json_t **j)
{
    json_decref(*j);
}
#define autojson __attribute__((cleanup(json_decrefp_))) json_t *
/* A number that changes when a member of the struct does (with a chance of 2^-64 not to), for what is kept because it
 * was costly to make. Depends on the program's build; never record it. */
uint64_t json_table_hash(const struct json_table *t, const void *in);
