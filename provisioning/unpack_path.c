/* SPDX-License-Identifier: Apache-2.0 */
/* Apart from unpacking, so that who only looks at paths needs no archives. */
#include <stdio.h>

#include "provisioning/unpack.h"

#define DEPTH_MAX 64

struct err *unpack_path(const char *entry, char ret[UNPACK_PATH_SIZE])
{
    size_t used = 0;
    int depth = 0;

    if (!entry || *entry == '/')
        return err_new(ERR_INVALID, "an entry has an absolute path or none");
    if (strlen(entry) >= UNPACK_PATH_SIZE)
        return err_new(ERR_INVALID, "an entry's path is too long");
    ret[0] = '\0';
    while (*entry) {
        size_t len = strcspn(entry, "/");
        const char *part = entry;

        entry += len + strspn(entry + len, "/");
        if (len == 1 && part[0] == '.')
            continue;
        if (len == 2 && part[0] == '.' && part[1] == '.')
            return err_new(ERR_INVALID, "an entry's path has '..'");
        if (len > 255 || ++depth > DEPTH_MAX)
            return err_new(ERR_INVALID, "an entry's path is too deep");
        used += (size_t)snprintf(ret + used, UNPACK_PATH_SIZE - used, "%s%.*s", used ? "/" : "", (int)len, part);
    }
    return NULL;
}

bool unpack_link_inside(const char *path, const char *target)
{
    int level = 0;

    if (*target == '/' || !*target)
        return false;
    for (const char *p = path; *p; p++)
        if (*p == '/')
            level++;
    while (*target) {
        size_t len = strcspn(target, "/");

        if (len == 2 && target[0] == '.' && target[1] == '.') {
            if (--level < 0)
                return false;
        } else if (len && !(len == 1 && target[0] == '.')) {
            level++;
        }
        target += len;
        target += strspn(target, "/");
    }
    return true;
}
