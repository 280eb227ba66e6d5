/* SPDX-License-Identifier: Apache-2.0 */
#include "base/str.h"

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

bool str_is_made_of(const char *s, const char *allowed, size_t max)
{
    size_t len = s ? strlen(s) : 0;

    return len >= 1 && len <= max && strspn(s, allowed) == len;
}

bool str_has_control(const char *s)
{
    for (; *s; s++)
        if ((unsigned char)*s < 0x20 || *s == 0x7f)
            return true;
    return false;
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
