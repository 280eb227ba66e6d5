/* SPDX-License-Identifier: Apache-2.0 */
#include "provisioning/bundle.h"

#include <errno.h>

#include "base/failpoint.h"
#include "base/fd.h"
#include "base/str.h"
#include "provisioning/confined.h"
#include "provisioning/install.h"
#include "storage/layout.h"
#include "storage/subvolume.h"

/* What is installed under the manifest's name and version: nothing (*ret false), the same, or ERR_CONFLICT. */
static struct err *already_there(const char *pool, const json_t *manifest, bool *ret)
{
    const char *name = json_string_value(json_object_get(manifest, "name"));
    const char *version = json_string_value(json_object_get(manifest, "version"));
    autojson old = NULL;
    struct err *e = bundle_manifest(pool, name, version, &old);

    if (e && e->code == ERR_NOT_FOUND) {
        err_free(e);
        *ret = false;
        return NULL;
    }
    if (e)
        return e;
    if (!json_equal(old, manifest))
        return err_reason(err_new(ERR_CONFLICT, "it is installed with other content"), "KIT_CONFLICT");
    *ret = true;
    return NULL;
}

/* Whatever is installed may be together in a container. */
static struct err *check_clashes(const char *pool, const json_t *manifest)
{
    autojson installed = NULL;
    const json_t *other;
    size_t i;
    struct err *e = bundle_list(pool, &installed);

    json_array_foreach(installed, i, other)
    {
        if (!e && !str_eq(json_string_value(json_object_get(other, "name")),
                          json_string_value(json_object_get(manifest, "name"))))
            e = manifest_check_clash(manifest, other);
    }
    return e;
}

static struct err *unpack_kit(const char *temporary, const char *file, const char *public_key, json_t **ret)
{
    autofd int dir = -1;
    struct err *e = confined_open_root(temporary, &dir);

    return e ? e : bundle_unpack(file, public_key, dir, ret);
}

/* The lock is held and the kit is not there. */
static struct err *install_new(const char *pool, const char *file, const char *public_key, const json_t *manifest)
{
    const char *name = json_string_value(json_object_get(manifest, "name"));
    const char *version = json_string_value(json_object_get(manifest, "version"));
    autofree char *kits = layout_kits(pool);
    autofree char *temporary = layout_temporary(kits, name);
    autofree char *final = layout_kit(pool, name, version);
    autojson again = NULL;
    struct err *e = subvolume_create(temporary);

    if (e)
        return e;
    e = failpoint("kit.unpack");
    if (!e)
        e = unpack_kit(temporary, file, public_key, &again);
    if (!e && !json_equal(again, manifest))
        e = err_new(ERR_CONFLICT, "the bundle changed while it was read");
    if (!e)
        e = install_finish(temporary, final);
    if (e)
        err_ignore(subvolume_delete(pool, temporary));
    return e;
}

struct err *bundle_install(const char *pool, const char *file, const char *public_key, json_t **ret_manifest)
{
    autofd int lock = -1;
    autojson manifest = NULL;
    bool there = false;
    autofree char *kits = layout_kits(pool);
    struct err *e = bundle_verify(file, public_key, &manifest);

    if (!e)
        e = install_begin(pool, kits, &lock);
    if (!e)
        e = already_there(pool, manifest, &there);
    if (!e && !there)
        e = check_clashes(pool, manifest);
    if (!e && !there)
        e = install_new(pool, file, public_key, manifest);
    if (e && manifest)
        e = err_wrap(e, "kit %s %s", json_string_value(json_object_get(manifest, "name")),
                     json_string_value(json_object_get(manifest, "version")));
    if (e)
        return e;
    *ret_manifest = steal(&manifest);
    return NULL;
}

struct err *bundle_remove(const char *pool, const char *name, const char *version)
{
    autofree char *kits = layout_kits(pool), *path = NULL;
    autofd int lock = -1;
    struct err *e = install_begin(pool, kits, &lock);

    if (!e && (!manifest_is_name(name) || !manifest_is_version(version)))
        e = err_new(ERR_INVALID, "not the name and version of a kit");
    if (e)
        return e;
    path = layout_kit(pool, name, version);
    return subvolume_delete(pool, path);
}
