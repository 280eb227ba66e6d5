/* SPDX-License-Identifier: Apache-2.0 */
/* The names in a directory, sorted, without "." and "..": read whole, so that the caller may change it meanwhile. */
#pragma once

#include "base/err.h"

struct names {
    char **name;
    size_t count;
};

/* A missing directory is an empty one. */
MUST_USE struct err *names_list(const char *dir, struct names **ret);
void names_free(struct names *names);
DEFINE_AUTO(struct names, names_free)
