/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The JSON texts of a container, kept with a hash of all that they show: lists and maps are asked for far more often
 * than a container changes, and making a text costs many times as much as the hash. A build with AddressSanitizer makes
 * each text anew as well and stops when they differ. Loop thread only.
 */
#pragma once

#include "agent/agent.h"

struct text {
    char *text; /* NULL: not made yet */
    size_t len;
    uint64_t of; /* the hash */
};

/* The API's container object, and the container's entry in the proxy's map. Valid until the next call. */
const struct text *texts_object(const struct agent *a, struct container *c);
const struct text *texts_route(const struct agent *a, struct container *c);
void texts_free(struct texts *t);

/* Puts texts together; `text` is the owner's to free. */
struct text_buffer {
    char *text;
    size_t len, size;
};
void text_add(struct text_buffer *b, const char *text, size_t len);
/* At most 500 characters. */
void text_add_format(struct text_buffer *b, const char *format, ...) PRINTF_LIKE(2, 3);
