/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Cursors: a place in the node's history of events, as 46 characters of base64url that clients keep and give back. 34
 * bytes: version, 16 bytes of the history's id, 8 of the number of the last event that was seen, a check of 8 bytes.
 * The check finds what was cut or mistyped; it is no secret, as a forged cursor shows nothing that a plain list does
 * not. Pure.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/id.h"

#define CURSOR_SIZE 47 /* with the NUL */

struct cursor {
    char history[ID_OPERATION_LEN + 1]; /* 32 hex digits */
    int64_t seq;
};

void cursor_encode(const struct cursor *c, char ret[CURSOR_SIZE]);
/* False when text is no cursor. */
bool cursor_decode(const char *text, struct cursor *ret);
