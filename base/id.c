/* SPDX-License-Identifier: Apache-2.0 */
#include "base/id.h"

#include <stdlib.h>
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
