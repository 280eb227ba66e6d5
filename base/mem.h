/* SPDX-License-Identifier: Apache-2.0 */
/* Ownership by attribute: a local declared auto_(x_free) is released when its scope ends; steal() hands it on. */
#pragma once

#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/param.h> /* MIN, MAX */

#define MUST_USE __attribute__((warn_unused_result))
#define PRINTF_LIKE(fmt, args) __attribute__((format(printf, fmt, args)))
#define UNUSED __attribute__((unused))
#define NORETURN __attribute__((noreturn))

/* auto_(container_unref) struct container *c = ...;  calls container_unrefp(&c), made by DEFINE_AUTO. */
#define auto_(fn) __attribute__((cleanup(fn##p)))
#define DEFINE_AUTO(type, fn)                                                                                          \
    static inline UNUSED void fn##p(type **p)                                                                          \
    {                                                                                                                  \
        if (*p)                                                                                                        \
            fn(*p);                                                                                                    \
    }

static inline void mem_freep(void *p)
{
    free(*(void **)p);
}
#define autofree __attribute__((cleanup(mem_freep)))

/* Hands over the value of a pointer variable and leaves NULL behind. */
#define steal(pp)                                                                                                      \
    __extension__({                                                                                                    \
        __typeof__(*(pp)) steal_tmp_ = *(pp);                                                                          \
        *(pp) = NULL;                                                                                                  \
        steal_tmp_;                                                                                                    \
    })

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
/* Zeroed memory for a small fixed object or a count that was bounded before; aborts when there is none. */
void *mem_alloc(size_t count, size_t size);
#define mem_new(type) ((type *)mem_alloc(1, sizeof(type)))
#define mem_new_array(type, n) ((type *)mem_alloc((n), sizeof(type)))

/* Grows an array to `count` members; new memory is not cleared. Aborts when there is none. */
void *mem_grow(void *p, size_t count, size_t size);
