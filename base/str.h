/* SPDX-License-Identifier: Apache-2.0 */
/* Strings: formatting into fresh memory, character classes, numbers. Strings handed out are the caller's. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/mem.h"

/* asprintf that aborts without memory: only for texts of bounded size. */
char *str_fmt(const char *fmt, ...) PRINTF_LIKE(1, 2);
char *str_dup(const char *s); /* NULL stays NULL */
/* Replaces *p by a copy of s (may be NULL). */
void str_set(char **p, const char *s);

static inline bool str_eq(const char *a, const char *b)
{
    return a == b || (a && b && strcmp(a, b) == 0);
}
static inline bool str_empty(const char *s)
{
    return !s || !*s;
}

/* Whole string, decimal, no sign but '-', no blanks. */
bool str_to_i64(const char *s, int64_t *ret);
/* s is 1..max characters of `allowed` only. */
bool str_to_size(const char *s, int64_t *ret); /* "512M": K, M, G, T are powers of 1024 */
bool str_is_made_of(const char *s, const char *allowed, size_t max);
/* One DNS label of any text: lower case, '-' for '_', without what a label may not have. The caller frees it. */
char *str_host_label(const char *text);
size_t str_chars(const char *s);      /* characters of valid UTF-8 */
bool str_has_control(const char *s);  /* a byte below 0x20 or 0x7f */
bool str_is_text(const char *s);      /* no such byte but tabs and line breaks: LF, CR */
bool str_is_object_id(const char *s); /* 24 lower case hex digits */

/* Bytes as lower case hex digits; ret must hold 2 * len + 1. */
void str_hex(const void *bytes, size_t len, char *ret);
/* The text whose bytes the hex digits say; NULL: they are none, or say a NUL. The caller frees it. */
char *str_of_hex(const char *hex);

/* "2026-01-15T10:30:00.000Z" of milliseconds since the epoch; ret must hold 25 bytes. */
#define STR_TIME_SIZE 32
const char *str_time(int64_t ms, char ret[STR_TIME_SIZE]);
/* ISO 8601: "2026-01-15", "2026-01-15T10:30[:00[.000]]" with nothing (UTC), "Z" or "+01:00" behind. From 1970 on. */
bool str_to_time(const char *s, int64_t *ret_ms);
