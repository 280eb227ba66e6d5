/* SPDX-License-Identifier: Apache-2.0 */
#include "base/str.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>

char *str_fmt(const char *fmt, ...)
{
    char *text = NULL;
    va_list ap;

    va_start(ap, fmt);
    if (vasprintf(&text, fmt, ap) < 0)
        abort();
    va_end(ap);
    return text;
}

char *str_dup(const char *s)
{
    return s ? str_fmt("%s", s) : NULL;
}

void str_set(char **p, const char *s)
{
    char *copy = str_dup(s);

    free(*p);
    *p = copy;
}

bool str_to_i64(const char *s, int64_t *ret)
{
    char *end;
    long long v;

    if (!s || !((*s >= '0' && *s <= '9') || *s == '-'))
        return false;
    errno = 0;
    v = strtoll(s, &end, 10);
    if (errno || *end || end == s)
        return false;
    *ret = v;
    return true;
}

bool str_to_size(const char *text, int64_t *ret)
{
    static const char units[] = "KMGT";
    autofree char *digits = str_dup(text);
    size_t len = strlen(digits);
    const char *unit = len ? strchr(units, toupper((unsigned char)digits[len - 1])) : NULL;
    int shift = 0;

    if (unit && *unit) {
        shift = 10 * (int)(unit - units + 1);
        digits[len - 1] = '\0';
    }
    if (!str_to_i64(digits, ret) || *ret < 0 || *ret > (INT64_MAX >> shift))
        return false;
    *ret <<= shift;
    return true;
}

bool str_is_made_of(const char *s, const char *allowed, size_t max)
{
    size_t len = s ? strlen(s) : 0;

    return len >= 1 && len <= max && strspn(s, allowed) == len;
}

size_t str_chars(const char *s)
{
    size_t n = 0;

    for (; *s; s++)
        n += ((unsigned char)*s & 0xc0) != 0x80;
    return n;
}

char *str_host_label(const char *text)
{
    char label[64];
    size_t n = 0;

    for (const char *p = text; *p && n < sizeof(label) - 1; p++) {
        char c = *p == '_' ? '-' : (char)tolower((unsigned char)*p);

        if ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || (c == '-' && n > 0))
            label[n++] = c;
    }
    while (n > 0 && label[n - 1] == '-')
        n--;
    label[n] = '\0';
    return str_dup(n ? label : "container");
}

bool str_has_control(const char *s)
{
    for (; *s; s++)
        if ((unsigned char)*s < 0x20 || *s == 0x7f)
            return true;
    return false;
}

bool str_is_text(const char *s)
{
    for (; *s; s++)
        if (((unsigned char)*s < 0x20 && *s != '\t' && *s != '\n' && *s != '\r') || *s == 0x7f)
            return false;
    return true;
}

bool str_is_object_id(const char *s)
{
    return s && strlen(s) == 24 && strspn(s, "0123456789abcdef") == 24;
}

const char *str_time(int64_t ms, char ret[STR_TIME_SIZE])
{
    time_t seconds = (time_t)(ms / 1000);
    struct tm tm;
    size_t n;

    gmtime_r(&seconds, &tm);
    n = strftime(ret, STR_TIME_SIZE, "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(ret + n, STR_TIME_SIZE - n, ".%03dZ", (int)(ms % 1000));
    return ret;
}

/* Exactly `digits` decimal digits; moves *p behind them. */
static bool take_number(const char **p, int digits, int max, int *ret)
{
    int v = 0;

    for (int i = 0; i < digits; i++, (*p)++) {
        if (**p < '0' || **p > '9')
            return false;
        v = v * 10 + (**p - '0');
    }
    *ret = v;
    return v <= max;
}

static bool take(const char **p, char c)
{
    if (**p != c)
        return false;
    (*p)++;
    return true;
}

static bool take_clock(const char **p, struct tm *tm, int *ms)
{
    if (!take_number(p, 2, 23, &tm->tm_hour) || !take(p, ':') || !take_number(p, 2, 59, &tm->tm_min))
        return false;
    if (!take(p, ':'))
        return true;
    if (!take_number(p, 2, 59, &tm->tm_sec))
        return false;
    if (!take(p, '.'))
        return true;
    for (int unit = 100; **p >= '0' && **p <= '9'; (*p)++, unit /= 10)
        *ms += (**p - '0') * unit;
    return true;
}

static bool take_zone(const char **p, int *minutes)
{
    int sign = **p == '-' ? -1 : 1, h, m;

    if (take(p, 'Z') || **p == '\0')
        return true;
    if ((!take(p, '+') && !take(p, '-')) || !take_number(p, 2, 23, &h) || !take(p, ':') || !take_number(p, 2, 59, &m))
        return false;
    *minutes = sign * (h * 60 + m);
    return true;
}

bool str_to_time(const char *s, int64_t *ret_ms)
{
    struct tm tm = {0}, back;
    int ms = 0, zone = 0;
    time_t t;

    if (!take_number(&s, 4, 9999, &tm.tm_year) || !take(&s, '-') || !take_number(&s, 2, 12, &tm.tm_mon) ||
        !take(&s, '-') || !take_number(&s, 2, 31, &tm.tm_mday) || tm.tm_year < 1970 || tm.tm_mon < 1 || tm.tm_mday < 1)
        return false;
    if (take(&s, 'T') && (!take_clock(&s, &tm, &ms) || !take_zone(&s, &zone)))
        return false;
    tm.tm_year -= 1900;
    tm.tm_mon--;
    back = tm;
    t = timegm(&back);
    if (*s || back.tm_mday != tm.tm_mday) /* the 31st of a short month */
        return false;
    *ret_ms = ((int64_t)t - zone * 60) * 1000 + ms;
    return true;
}

void str_hex(const void *bytes, size_t len, char *ret)
{
    static const char digits[] = "0123456789abcdef";
    const unsigned char *p = bytes;

    for (size_t i = 0; i < len; i++) {
        *ret++ = digits[p[i] >> 4];
        *ret++ = digits[p[i] & 15];
    }
    *ret = '\0';
}

char *str_of_hex(const char *hex)
{
    size_t len = strlen(hex);
    autofree char *text = mem_alloc(len / 2 + 1, 1);
    unsigned byte;

    for (size_t i = 0; i < len; i += 2) {
        if (!isxdigit((unsigned char)hex[i]) || !isxdigit((unsigned char)hex[i + 1]) ||
            sscanf(hex + i, "%2x", &byte) != 1 || byte == 0)
            return NULL;
        text[i / 2] = (char)byte;
    }
    return steal(&text);
}
