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
    autofree char *canonical = image_name_canonical(alias), *wanted = image_name_canonical(name);

    return str_eq(alias, name) || (canonical && str_eq(canonical, wanted ? wanted : name));
}

static bool is_default_variant(const json_t *product)
{
    const char *variant = text_of(product, "variant");

    return str_empty(variant) || str_eq(variant, "default");
}

/* The name that os and another member make together, such as ubuntu/noble and ubuntu/24.04. */
static bool is_os_and(const json_t *product, const char *member, const char *name)
{
    autofree char *made = str_fmt("%s/%s", text_of(product, "os"), text_of(product, member));

    return !str_empty(text_of(product, member)) && is_default_variant(product) && names_it(made, name);
}

/* Whether one of the product's aliases, which commas and blanks part, is the name; behind_os: "OS/ALIAS" is meant. */
static bool has_alias(const json_t *product, const char *name, bool behind_os)
{
    autofree char *aliases = str_dup(text_of(product, "aliases"));
    char *rest = aliases;

    for (char *alias = strsep(&rest, ", \t"); alias; alias = strsep(&rest, ", \t")) {
        autofree char *longer = str_fmt("%s/%s", text_of(product, "os"), alias);

        if (*alias && names_it(behind_os ? longer : alias, name))
            return true;
    }
    return false;
}

/* An alias that a product states goes before a name that is made of its parts. */
static bool is_called(const json_t *product, const char *name, bool made)
{
    if (!made)
        return has_alias(product, name, false) || is_os_and(product, "release", name);
    return has_alias(product, name, true) || is_os_and(product, "version", name);
}

/* The newest one that is older than `than`, which may be NULL. */
static const json_t *newest(const json_t *versions, const char *than, const char **ret_serial)
{
    const json_t *found = NULL;
    const char *serial;
    json_t *version;

    *ret_serial = "";
    json_object_foreach((json_t *)(uintptr_t)versions, serial, version)
    {
        if ((than && strcmp(serial, than) >= 0) || (found && strcmp(serial, *ret_serial) <= 0))
            continue;
        found = version;
        *ret_serial = serial;
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

/* *ret_none: it has none of the forms, so an older version may do. */
static struct err *take_version(const json_t *version, const char *serial, struct streams_image *ret, bool *ret_none)
{
    const json_t *items = json_object_get(version, "items");

    *ret_none = false;
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
    *ret_none = true;
    return err_new(ERR_INVALID, "the image has no form that can be imported");
}

static struct err *take_newest(const json_t *versions, struct streams_image *ret)
{
    const char *serial = NULL;
    const json_t *version;
    struct err *e = NULL;
    bool none = true;

    while (none && (version = newest(versions, serial, &serial))) {
        err_free(e);
        e = take_version(version, serial, ret, &none);
    }
    return e;
}

/* The product of that name for this host's processor, or NULL. */
static const json_t *product_of(const json_t *catalogue, const char *name, bool made)
{
    const char *key, *serial;
    json_t *product;

    json_object_foreach(json_object_get(catalogue, "products"), key, product)
    {
        if (newest(json_object_get(product, "versions"), NULL, &serial) &&
            str_eq(image_debian_processor(text_of(product, "arch")), image_architecture()) &&
            is_called(product, name, made))
            return product;
    }
    return NULL;
}

struct err *streams_find(const json_t *catalogue, const char *name, struct streams_image *ret)
{
    const json_t *product = product_of(catalogue, name, false);

    if (!product)
        product = product_of(catalogue, name, true);
    if (product)
        return take_newest(json_object_get(product, "versions"), ret);
    return err_new(ERR_NOT_FOUND, "there is no image '%s' for %s", name, image_architecture());
}

void streams_image_clear(struct streams_image *i)
{
    for (size_t k = 0; k < STREAMS_FILES; k++)
        free(i->files[k].path);
    free(i->serial);
    memset(i, 0, sizeof(*i));
}
