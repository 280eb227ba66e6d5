/* SPDX-License-Identifier: Apache-2.0 */
#include "images/streams.h"

#include <stdio.h>

#include "base/str.h"
#include "images/image.h"

#define PATH_CHARACTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-+~:%/"
#define PATH_LEN_MAX 512

static const char *text_of(const json_t *object, const char *member)
{
    const char *text = json_string_value(json_object_get(object, member));

    return text ? text : "";
}

static bool path_ok(const char *path)
{
    return str_is_made_of(path, PATH_CHARACTERS, PATH_LEN_MAX) && path[0] != '/' && !strstr(path, "..") &&
           !strstr(path, "//");
}

struct err *streams_catalogues(const json_t *index, json_t **ret)
{
    json_t *paths = json_array(), *entry;
    const char *name;

    json_object_foreach(json_object_get(index, "index"), name, entry)
    {
        const char *path = text_of(entry, "path");

        if (strcmp(text_of(entry, "datatype"), "image-downloads") == 0 && path_ok(path))
            json_array_append_new(paths, json_string(path));
    }
    *ret = paths;
    return json_array_size(paths) ? NULL : err_new(ERR_INVALID, "the index has no catalogue of images");
}

static bool names_it(const char *alias, const char *name)
{
    autofree char *canonical = image_name_canonical(alias);

    return str_eq(alias, name) || str_eq(canonical, name);
}

static bool is_called(const json_t *product, const char *name)
{
    autofree char *aliases = str_dup(text_of(product, "aliases"));
    autofree char *plain = str_fmt("%s/%s", text_of(product, "os"), text_of(product, "release"));
    char *rest = aliases;

    if (names_it(plain, name) &&
        (str_empty(text_of(product, "variant")) || str_eq(text_of(product, "variant"), "default")))
        return true;
    for (char *alias = strsep(&rest, ","); alias; alias = strsep(&rest, ","))
        if (names_it(alias, name))
            return true;
    return false;
}

static const json_t *newest(const json_t *versions, const char **ret_serial)
{
    const json_t *found = NULL;
    const char *serial;
    json_t *version;

    *ret_serial = "";
    json_object_foreach((json_t *)(uintptr_t)versions, serial, version)
    {
        if (!found || strcmp(serial, *ret_serial) > 0) {
            found = version;
            *ret_serial = serial;
        }
    }
    return found;
}

static const json_t *item_of(const json_t *items, const char *ftype)
{
    const char *name;
    json_t *item;

    json_object_foreach((json_t *)(uintptr_t)items, name, item) if (str_eq(text_of(item, "ftype"), ftype)) return item;
    return NULL;
}

static struct err *take(const json_t *item, struct streams_file *ret)
{
    const char *path = text_of(item, "path"), *sha256 = text_of(item, "sha256");

    ret->size = json_integer_value(json_object_get(item, "size"));
    if (!path_ok(path))
        return err_new(ERR_INVALID, "a file of the image has no usable path");
    if (!image_fingerprint_ok(sha256))
        return err_new(ERR_INVALID, "'%s' has no sha256", path);
    if (ret->size <= 0 || ret->size > IMAGE_ARCHIVE_MAX)
        return err_new(ERR_TOO_LARGE, "'%s' has %lld bytes; 1..%lld are taken", path, (long long)ret->size,
                       (long long)IMAGE_ARCHIVE_MAX);
    ret->path = str_dup(path);
    memcpy(ret->sha256, sha256, sizeof(ret->sha256));
    return NULL;
}

/* The forms that can be imported, the best first. */
static const struct {
    const char *metadata, *root, *combined; /* types of the files; member of the metadata's with the fingerprint */
} forms[] = {
    {"incus.tar.xz", "squashfs", "combined_squashfs_sha256"},
    {"lxd.tar.xz", "squashfs", "combined_squashfs_sha256"},
    {"incus.tar.xz", "root.tar.xz", "combined_rootxz_sha256"},
    {"lxd.tar.xz", "root.tar.xz", "combined_rootxz_sha256"},
    {NULL, "incus_combined.tar.gz", NULL},
    {NULL, "lxd_combined.tar.gz", NULL},
};

static struct err *take_version(const json_t *version, const char *serial, struct streams_image *ret)
{
    const json_t *items = json_object_get(version, "items");

    for (size_t i = 0; i < ARRAY_LEN(forms); i++) {
        const json_t *metadata = forms[i].metadata ? item_of(items, forms[i].metadata) : NULL;
        const json_t *root = item_of(items, forms[i].root);
        const char *combined = forms[i].combined ? text_of(metadata, forms[i].combined) : text_of(root, "sha256");
        struct err *e = NULL;

        if (!root || (forms[i].metadata && !metadata))
            continue;
        if (metadata)
            e = take(metadata, &ret->files[ret->count++]);
        if (!e)
            e = take(root, &ret->files[ret->count++]);
        if (!e && *combined && !image_fingerprint_ok(combined))
            e = err_new(ERR_INVALID, "the image's fingerprint is none");
        if (!e)
            snprintf(ret->fingerprint, sizeof(ret->fingerprint), "%s", combined);
        ret->serial = str_dup(serial);
        return e;
    }
    return err_new(ERR_INVALID, "the image has no form that can be imported");
}

struct err *streams_find(const json_t *catalogue, const char *name, struct streams_image *ret)
{
    const char *key, *serial;
    json_t *product;

    json_object_foreach(json_object_get(catalogue, "products"), key, product)
    {
        const json_t *version = newest(json_object_get(product, "versions"), &serial);
        const char *arch = image_debian_processor(text_of(product, "arch"));

        if (version && str_eq(arch, image_architecture()) && is_called(product, name))
            return take_version(version, serial, ret);
    }
    return err_new(ERR_NOT_FOUND, "there is no image '%s' for %s", name, image_architecture());
}

void streams_image_clear(struct streams_image *i)
{
    for (size_t k = 0; k < STREAMS_FILES; k++)
        free(i->files[k].path);
    free(i->serial);
    memset(i, 0, sizeof(*i));
}
