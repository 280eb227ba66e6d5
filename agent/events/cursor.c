/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/events/cursor.h"

#include <stdio.h>
#include <string.h>

#include "base/str.h"

enum { VERSION = 1, BYTES = 34, AT_HISTORY = 2, AT_SEQ = 18, AT_CHECK = 26 };

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/* FNV-1a, 64 bits. */
static uint64_t check_of(const uint8_t *bytes, size_t len)
{
    uint64_t h = 0xcbf29ce484222325;

    for (size_t i = 0; i < len; i++)
        h = (h ^ bytes[i]) * 0x100000001b3;
    return h;
}

static void put_number(uint8_t *at, uint64_t v)
{
    for (int i = 7; i >= 0; i--, v >>= 8)
        at[i] = (uint8_t)v;
}

static uint64_t get_number(const uint8_t *at)
{
    uint64_t v = 0;

    for (int i = 0; i < 8; i++)
        v = v << 8 | at[i];
    return v;
}

void cursor_encode(const struct cursor *c, char ret[CURSOR_SIZE])
{
    uint8_t bytes[BYTES] = {VERSION};
    uint32_t bits = 0;
    int count = 0;
    char *out = ret;

    for (int i = 0; i < 16; i++) {
        unsigned byte = 0;

        (void)sscanf(c->history + i * 2, "%2x", &byte);
        bytes[AT_HISTORY + i] = (uint8_t)byte;
    }
    put_number(bytes + AT_SEQ, (uint64_t)c->seq);
    put_number(bytes + AT_CHECK, check_of(bytes, AT_CHECK));
    for (int i = 0; i < BYTES; i++) {
        bits = bits << 8 | bytes[i];
        for (count += 8; count >= 6; count -= 6)
            *out++ = alphabet[bits >> (count - 6) & 63];
    }
    *out++ = alphabet[bits << (6 - count) & 63];
    *out = '\0';
}

/* Exactly BYTES bytes from exactly 46 characters; the bits that are left over must be zero. */
static bool unpack(const char *text, uint8_t *bytes)
{
    uint32_t bits = 0;
    int count = 0, n = 0;

    if (strlen(text) != CURSOR_SIZE - 1)
        return false;
    for (const char *p = text; *p; p++) {
        const char *digit = strchr(alphabet, *p);

        if (!digit)
            return false;
        bits = bits << 6 | (uint32_t)(digit - alphabet);
        count += 6;
        if (count >= 8) {
            count -= 8;
            bytes[n++] = (uint8_t)(bits >> count);
        }
    }
    return (bits & ((1u << count) - 1)) == 0;
}

bool cursor_decode(const char *text, struct cursor *ret)
{
    uint8_t bytes[BYTES];

    if (!unpack(text, bytes) || bytes[0] != VERSION || bytes[1] != 0 ||
        get_number(bytes + AT_CHECK) != check_of(bytes, AT_CHECK))
        return false;
    str_hex(bytes + AT_HISTORY, 16, ret->history);
    ret->seq = (int64_t)get_number(bytes + AT_SEQ);
    return ret->seq >= 0;
}
