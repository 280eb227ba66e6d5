/* SPDX-License-Identifier: Apache-2.0 */
#include "base/id.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

static void hex(char *ret, int digits)
{
    static const char alphabet[] = "0123456789abcdef";
    unsigned char raw[ID_OPERATION_LEN / 2];

    if (getrandom(raw, sizeof(raw), 0) != (ssize_t)sizeof(raw))
        abort();
    for (int i = 0; i < digits; i++)
        ret[i] = alphabet[(raw[i / 2] >> (i % 2 ? 0 : 4)) & 15];
    ret[digits] = '\0';
}

void id_object(char ret[ID_OBJECT_LEN + 1])
{
    hex(ret, ID_OBJECT_LEN);
}

void id_operation(char ret[ID_OPERATION_LEN + 1])
{
    hex(ret, ID_OPERATION_LEN);
}

void id_of_name(const char *kind, const char *name, char ret[ID_OBJECT_LEN + 1])
{
    static const uint64_t offsets[] = {0xcbf29ce484222325, 0x84222325cbf29ce4};
    char text[33];
    size_t len = 0;

    /* FNV-1a, 64 bits, from two starting points; the slash keeps kinds apart. */
    for (size_t i = 0; i < 2; i++) {
        uint64_t h = offsets[i];

        for (const char *p = kind; *p; p++)
            h = (h ^ (unsigned char)*p) * 0x100000001b3;
        h = (h ^ '/') * 0x100000001b3;
        for (const char *p = name; *p; p++)
            h = (h ^ (unsigned char)*p) * 0x100000001b3;
        len += (size_t)snprintf(text + len, sizeof(text) - len, "%016llx", (unsigned long long)h);
    }
    memcpy(ret, text, ID_OBJECT_LEN);
    ret[ID_OBJECT_LEN] = '\0';
}
