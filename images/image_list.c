/* SPDX-License-Identifier: Apache-2.0 */
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/str.h"
#include "images/image.h"
#include "images/image_file.h"
#include "storage/layout.h"

int64_t image_recorded_bytes(const char *path)
{
    char text[32] = "";
    int64_t bytes = 0;

    if (lgetxattr(path, IMAGE_BYTES_XATTR, text, sizeof(text) - 1) <= 0 || !str_to_i64(text, &bytes))
        return 0;
    return bytes;
}

static int64_t born_at(const char *path)
{
    struct statx stx;

    if (statx(AT_FDCWD, path, AT_SYMLINK_NOFOLLOW, STATX_BTIME, &stx) < 0 || !(stx.stx_mask & STATX_BTIME))
        return 0;
    return stx.stx_btime.tv_sec * 1000 + stx.stx_btime.tv_nsec / 1000000;
}

char *image_base_path(const char *pool, const char *fingerprint, int64_t n)
{
    autofree char *image = layout_image(pool, fingerprint);

    return n ? str_fmt("%s~%lld", image, (long long)n) : steal(&image);
}

/* 0: what is there are bases of an image that was removed. */
static int64_t count_bases(const char *pool, const char *fingerprint)
{
    int64_t n = 0;

    for (; n <= IMAGE_BASES_MAX; n++) {
        autofree char *path = image_base_path(pool, fingerprint, n);

        if (access(path, F_OK) < 0)
            break;
    }
    return n;
}

static json_t *describe(const char *pool, const char *fingerprint, int64_t bases)
{
    autofree char *path = layout_image(pool, fingerprint);

    return json_pack("{s:s, s:I, s:I, s:I}", "fingerprint", fingerprint, "size_bytes",
                     (json_int_t)image_recorded_bytes(path), "added_at", (json_int_t)born_at(path), "bases",
                     (json_int_t)bases);
}

struct err *image_list(const char *pool, json_t **ret_array)
{
    autofree char *images = layout_images(pool);
    json_t *array = json_array();
    struct dirent *entry;
    DIR *dir = opendir(images);

    while (dir && (entry = readdir(dir))) {
        autofree char *fingerprint = strndup(entry->d_name, strcspn(entry->d_name, "~"));
        int64_t bases = image_fingerprint_ok(fingerprint) ? count_bases(pool, fingerprint) : -1;

        if (bases == 0 || (bases > 0 && str_eq(fingerprint, entry->d_name)))
            json_array_append_new(array, describe(pool, fingerprint, bases));
    }
    if (dir)
        closedir(dir);
    *ret_array = array;
    return NULL;
}
