/* SPDX-License-Identifier: Apache-2.0 */
#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "base/str.h"
#include "provisioning/bundle.h"
#include "provisioning/bundle_pack.h"
#include "storage/layout.h"

#define MANIFEST_MAX (256 * 1024)
#define DIGITS_OF_VERSION 8

/* kit.json as a manifest that says nothing yet of a payload. */
static struct err *read_recipe(const char *dir, json_t **ret)
{
    autofree char *path = str_fmt("%s/kit.json", dir), *text = NULL;
    size_t len = 0;
    autojson j = NULL;
    struct err *e = fd_read_file(path, MANIFEST_MAX, &text, &len);

    if (!e)
        e = json_parse(text, len, "kit.json", &j);
    if (!e && !json_is_object(j))
        e = err_new(ERR_INVALID, "kit.json must be an object");
    if (e)
        return e;
    if (json_object_get(j, "payload"))
        return err_field("payload", "is made by the build and cannot be given");
    if (!json_object_get(j, "format"))
        json_object_set_new(j, "format", json_integer(1));
    *ret = steal(&j);
    return NULL;
}

static void set_payload(json_t *j, const char *sha256, int64_t size)
{
    json_object_set_new(j, "payload", json_pack("{s:s, s:I}", "sha256", sha256, "size", (json_int_t)size));
}

static struct err *check_units(int tree, const json_t *units)
{
    const json_t *unit;
    size_t i;

    json_array_foreach((json_t *)(uintptr_t)units, i, unit)
    {
        autofree char *path = str_fmt("units/%s", json_string_value(unit));
        struct stat st;

        if (fstatat(tree, path, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(st.st_mode))
            return err_field("units", "there is no file tree/%s", path);
    }
    return NULL;
}

/* tree: where its units are; -1: they were looked at. */
static struct err *check_manifest(const json_t *j, int tree)
{
    struct manifest m;
    struct err *e = manifest_load(j, &m);

    if (!e)
        e = manifest_check_shared_units(&m);
    if (!e && tree >= 0)
        e = check_units(tree, m.units);
    if (!e && tree >= 0)
        e = manifest_check_users(&m, tree, "units");
    json_table_clear(&manifest_table, &m);
    return e;
}

/* The payload goes to out_fd and into the manifest. */
static struct err *fill(const struct bundle_recipe *recipe, json_t *j, int out_fd)
{
    autofree char *path = str_fmt("%s/tree", recipe->dir);
    autofd int tree = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    char sha256[BUNDLE_SHA256_SIZE] = "";
    int64_t size = 0;
    struct err *e;

    if (tree < 0)
        return err_errno(errno, "'%s'", path);
    set_payload(j, "0000000000000000000000000000000000000000000000000000000000000000", 1);
    e = check_manifest(j, tree);
    if (!e)
        e = bundle_pack(tree, out_fd, sha256, &size);
    if (e)
        return e;
    set_payload(j, sha256, size);
    if (recipe->version_by_content)
        json_object_set_new(
            j, "version",
            json_sprintf("%s+%.*s", json_string_value(json_object_get(j, "version")), DIGITS_OF_VERSION, sha256));
    return check_manifest(j, -1);
}

static struct err *add(struct archive *a, const char *name, int64_t size, const char *data, int fd)
{
    struct archive_entry *entry = archive_entry_new();
    char block[65536];
    bool good;

    if (!entry)
        abort();
    archive_entry_set_pathname(entry, name);
    archive_entry_set_filetype(entry, AE_IFREG);
    archive_entry_set_perm(entry, 0644);
    archive_entry_set_size(entry, size);
    good = archive_write_header(a, entry) == ARCHIVE_OK;
    archive_entry_free(entry);
    if (good && data)
        good = archive_write_data(a, data, (size_t)size) == size;
    for (int64_t at = 0; good && !data && at < size;) {
        ssize_t n = pread(fd, block, sizeof(block), at);

        good = n > 0 && archive_write_data(a, block, (size_t)n) == n;
        at += n;
    }
    return good ? NULL : err_new(ERR_HOST, "cannot write %s into the bundle", name);
}

static struct err *write_bundle(const struct bundle_recipe *recipe, const json_t *j, int payload, int fd)
{
    autofree char *pretty = json_dumps(j, JSON_INDENT(2) | JSON_SORT_KEYS), *text = NULL, *signature = NULL;
    struct archive *a = NULL;
    size_t len = 0;
    struct err *e;

    if (!pretty)
        return err_new(ERR_INTERNAL, "the manifest cannot be written");
    text = str_fmt("%s\n", pretty);
    e = bundle_sign(recipe->private_key, text, strlen(text), &signature, &len);
    if (e)
        return e;
    a = archive_write_new();
    if (!a)
        abort();
    if (archive_write_set_format_ustar(a) != ARCHIVE_OK || archive_write_set_bytes_in_last_block(a, 1) != ARCHIVE_OK ||
        archive_write_open_fd(a, fd) != ARCHIVE_OK)
        e = err_new(ERR_INTERNAL, "cannot begin the bundle");
    if (!e)
        e = add(a, "manifest.json", (int64_t)strlen(text), text, -1);
    if (!e)
        e = add(a, "manifest.sig", (int64_t)len, signature, -1);
    if (!e)
        e = add(a, "payload.tar.zst", json_integer_value(json_object_get(json_object_get(j, "payload"), "size")), NULL,
                payload);
    if (!e && (archive_write_close(a) != ARCHIVE_OK || fsync(fd) < 0))
        e = err_new(ERR_HOST, "cannot write the bundle");
    archive_write_free(a);
    return e;
}

/* Under its name only when it is whole. */
static struct err *deliver(const struct bundle_recipe *recipe, const json_t *j, int payload, char **ret_file)
{
    autofree char *name = str_fmt("%s-%s.kit", json_string_value(json_object_get(j, "name")),
                                  json_string_value(json_object_get(j, "version")));
    autofree char *temporary = layout_temporary(recipe->out, name), *file = str_fmt("%s/%s", recipe->out, name);
    autofd int fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0644);
    struct err *e;

    if (fd < 0)
        return err_errno(errno, "'%s'", temporary);
    e = write_bundle(recipe, j, payload, fd);
    if (!e && rename(temporary, file) < 0)
        e = err_errno(errno, "'%s'", file);
    if (e)
        (void)unlink(temporary);
    else
        *ret_file = steal(&file);
    return e;
}

struct err *bundle_build(const struct bundle_recipe *recipe, char **ret_file, json_t **ret_manifest)
{
    autofd int payload = open(recipe->out, O_RDWR | O_TMPFILE | O_CLOEXEC, 0600);
    autojson j = NULL;
    struct err *e = NULL;

    if (payload < 0)
        return err_errno(errno, "'%s'", recipe->out);
    e = read_recipe(recipe->dir, &j);
    if (!e)
        e = fill(recipe, j, payload);
    if (!e)
        e = deliver(recipe, j, payload, ret_file);
    if (e)
        return err_wrap(e, "'%s'", recipe->dir);
    *ret_manifest = steal(&j);
    return NULL;
}
