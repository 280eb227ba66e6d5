/* SPDX-License-Identifier: Apache-2.0 */
#include <ctype.h>
#include <sys/utsname.h>

#include "base/str.h"
#include "images/image.h"

#define PART_MAX 32
#define FINGERPRINT_LEN 64

/* The version a bare distribution name means. */
static const struct {
    const char *distribution, *version;
} defaults[] = {{"debian", "13"}};

static const struct {
    const char *kernel, *debian;
} processors[] = {{"x86_64", "amd64"}, {"aarch64", "arm64"}};

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

bool image_remote_name_ok(const char *text)
{
    return str_is_made_of(text, "abcdefghijklmnopqrstuvwxyz0123456789._-/", 4 * PART_MAX) && text[0] != '/' &&
           !strstr(text, "..");
}

bool image_fingerprint_ok(const char *text)
{
    return text && strlen(text) == FINGERPRINT_LEN && str_is_made_of(text, "0123456789abcdef", FINGERPRINT_LEN);
}

const char *image_debian_processor(const char *machine)
{
    for (size_t i = 0; i < ARRAY_LEN(processors); i++)
        if (str_eq(machine, processors[i].kernel))
            return processors[i].debian;
    return machine;
}

const char *image_architecture(void)
{
    static struct utsname host;

    (void)uname(&host);
    return image_debian_processor(host.machine);
}
