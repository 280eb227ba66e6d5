/* SPDX-License-Identifier: Apache-2.0 */
#include <ctype.h>

#include "base/str.h"
#include "images/image.h"

#define PART_MAX 32

/* The version a bare distribution name means. */
static const struct {
    const char *distribution, *version;
} defaults[] = {{"debian", "13"}};

static bool is_part(const char *s)
{
    return str_is_made_of(s, "abcdefghijklmnopqrstuvwxyz0123456789._", PART_MAX) && s[0] != '.' && s[0] != '_';
}

char *image_name_canonical(const char *text)
{
    char lower[2 * PART_MAX + 2];
    size_t len = text ? strlen(text) : 0;
    char *version;

    if (!text)
        return str_dup(IMAGE_DEFAULT);
    if (!len || len >= sizeof(lower))
        return NULL;
    for (size_t i = 0; i <= len; i++)
        lower[i] = (char)tolower((unsigned char)text[i]);
    version = lower + strcspn(lower, "/-: ");
    if (*version)
        *version++ = '\0';
    else
        for (size_t i = 0; i < ARRAY_LEN(defaults); i++)
            if (str_eq(lower, defaults[i].distribution))
                return str_fmt("%s/%s", lower, defaults[i].version);
    return is_part(lower) && is_part(version) ? str_fmt("%s/%s", lower, version) : NULL;
}

char *image_file_name(const char *canonical)
{
    char *name = str_dup(canonical);

    for (char *p = name; *p; p++)
        if (*p == '/')
            *p = '-';
    return name;
}
