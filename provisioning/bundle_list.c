/* SPDX-License-Identifier: Apache-2.0 */
/* Looking at installed kits: apart from installing, so that who only looks needs neither archives nor signatures. */
#include <dirent.h>
#include <errno.h>

#include "base/fd.h"
#include "base/str.h"
#include "provisioning/bundle.h"
#include "storage/layout.h"

#define MANIFEST_MAX (256 * 1024)

static struct err *read_manifest(const char *kit_dir, json_t **ret)
{
    autofree char *path = str_fmt("%s/manifest.json", kit_dir);
    autofree char *text = NULL;
    size_t len = 0;
    struct err *e = fd_read_file(path, MANIFEST_MAX, &text, &len);

    return e ? e : json_parse(text, len, "manifest", ret);
}

struct err *bundle_manifest(const char *pool, const char *name, const char *version, json_t **ret_manifest)
{
    autofree char *dir = NULL;
    struct err *e;

    if (!manifest_is_name(name) || !manifest_is_version(version))
        return err_new(ERR_INVALID, "not the name and version of a kit");
    dir = layout_kit(pool, name, version);
    e = read_manifest(dir, ret_manifest);
    if (e && e->code == ERR_NOT_FOUND) {
        err_free(e);
        e = err_reason(err_new(ERR_NOT_FOUND, "kit %s %s is not installed", name, version), "KIT_NOT_FOUND");
    }
    return e;
}

struct err *bundle_list(const char *pool, json_t **ret_array)
{
    autofree char *kits = layout_kits(pool);
    autojson array = json_array();
    DIR *dir = opendir(kits);
    struct dirent *entry;

    if (!dir && errno != ENOENT)
        return err_errno(errno, "'%s'", kits);
    while (dir && (entry = readdir(dir))) {
        autofree char *path = NULL;
        json_t *manifest = NULL;

        if (entry->d_name[0] == '.')
            continue;
        path = str_fmt("%s/%s", kits, entry->d_name);
        /* A kit without a readable manifest is none. */
        err_ignore(read_manifest(path, &manifest));
        if (manifest)
            json_array_append_new(array, manifest);
    }
    if (dir)
        closedir(dir);
    *ret_array = steal(&array);
    return NULL;
}
