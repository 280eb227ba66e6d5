/* SPDX-License-Identifier: Apache-2.0 */
#include "runtime/names.h"

#include <dirent.h>
#include <errno.h>

#include "base/str.h"

static int compare(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

struct err *names_list(const char *dir, struct names **ret)
{
    struct names *names = mem_new(struct names);
    DIR *d = opendir(dir);
    struct dirent *entry;

    if (!d && errno != ENOENT) {
        names_free(names);
        return err_errno(errno, "cannot list '%s'", dir);
    }
    while (d && (entry = readdir(d))) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        names->name = mem_grow(names->name, names->count + 1, sizeof(*names->name));
        names->name[names->count++] = str_dup(entry->d_name);
    }
    if (d)
        closedir(d);
    if (names->count)
        qsort(names->name, names->count, sizeof(*names->name), compare);
    *ret = names;
    return NULL;
}

void names_free(struct names *names)
{
    if (!names)
        return;
    for (size_t i = 0; i < names->count; i++)
        free(names->name[i]);
    free(names->name);
    free(names);
}
