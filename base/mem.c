/* SPDX-License-Identifier: Apache-2.0 */
#include "base/mem.h"

#include <stdint.h>

void *mem_alloc(size_t count, size_t size)
{
    void *p = calloc(count ? count : 1, size ? size : 1);

    if (!p)
        abort();
    return p;
}

void *mem_grow(void *p, size_t count, size_t size)
{
    if (size && count > SIZE_MAX / size)
        abort();
    p = realloc(p, MAX(count * size, (size_t)1));
    if (!p)
        abort();
    return p;
}
