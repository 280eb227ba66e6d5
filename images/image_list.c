/* SPDX-License-Identifier: Apache-2.0 */
#include <dirent.h>

#include "base/str.h"
#include "images/image.h"
#include "storage/layout.h"

struct err *image_list(const char *pool, json_t **ret_array)
{
    autofree char *images = layout_images(pool);
    json_t *array = json_array();
    struct dirent *entry;
    DIR *dir = opendir(images);

    while (dir && (entry = readdir(dir))) {
        autofree char *canonical = NULL;

        if (entry->d_name[0] == '.')
            continue;
        canonical = image_name_canonical(entry->d_name);
        if (canonical)
            json_array_append_new(array, json_string(canonical));
    }
    if (dir)
        closedir(dir);
    *ret_array = array;
    return NULL;
}
