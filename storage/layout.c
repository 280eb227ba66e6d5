/* SPDX-License-Identifier: Apache-2.0 */
#include "storage/layout.h"

#include "base/str.h"

#define NAME_CHARACTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-+~"

char *layout_images(const char *pool)
{
    return str_fmt("%s/images", pool);
}

char *layout_kits(const char *pool)
{
    return str_fmt("%s/kits", pool);
}

char *layout_slots(const char *pool)
{
    return str_fmt("%s/slots", pool);
}

char *layout_trash(const char *pool)
{
    return str_fmt("%s/trash", pool);
}

char *layout_image(const char *pool, const char *image)
{
    char *path = str_fmt("%s/images/%s", pool, image);

    for (char *p = path + strlen(pool) + strlen("/images/"); *p; p++)
        if (*p == '/')
            *p = '-';
    return path;
}

char *layout_kit(const char *pool, const char *name, const char *version)
{
    return str_fmt("%s/kits/%s-%s", pool, name, version);
}

char *layout_slot(const char *pool, int64_t slot)
{
    return str_fmt("%s/slots/%lld", pool, (long long)slot);
}

char *layout_rootfs(const char *pool, int64_t slot)
{
    return str_fmt("%s/slots/%lld/rootfs", pool, (long long)slot);
}

char *layout_base(const char *pool, int64_t slot)
{
    return str_fmt("%s/slots/%lld/base", pool, (long long)slot);
}

char *layout_sent(const char *pool, int64_t slot)
{
    return str_fmt("%s/slots/%lld/sent", pool, (long long)slot);
}

char *layout_snapshots(const char *pool, int64_t slot)
{
    return str_fmt("%s/slots/%lld/snapshots", pool, (long long)slot);
}

char *layout_snapshot(const char *pool, int64_t slot, const char *name)
{
    return str_fmt("%s/slots/%lld/snapshots/%s", pool, (long long)slot, name);
}

char *layout_temporary(const char *dir, const char *name)
{
    return str_fmt("%s/" LAYOUT_TEMPORARY "%s", dir, name);
}

bool layout_name_ok(const char *name)
{
    return name && name[0] != '.' && str_is_made_of(name, NAME_CHARACTERS, LAYOUT_NAME_MAX);
}

bool layout_image_ok(const char *image)
{
    if (!image || !str_is_made_of(image, NAME_CHARACTERS "/", LAYOUT_NAME_MAX))
        return false;
    if (image[strlen(image) - 1] == '/')
        return false;
    for (const char *p = image; p; p = strchr(p, '/') ? strchr(p, '/') + 1 : NULL)
        if (*p == '.' || *p == '/')
            return false;
    return true;
}
