/* SPDX-License-Identifier: Apache-2.0 */
#include "images/image.h"

#include <archive.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "base/failpoint.h"
#include "base/fd.h"
#include "base/str.h"
#include "provisioning/confined.h"
#include "provisioning/install.h"
#include "provisioning/unpack.h"
#include "storage/layout.h"
#include "storage/subvolume.h"

/* The size is kept on the image's own root; trusted.* cannot be seen or set from within a user namespace. */
#define BYTES_XATTR "trusted.noded.bytes"
#define BLOCK 262144

static const struct unpack_rules image_rules = {
    .max_entries = 2000000, .max_bytes = 64LL * 1024 * 1024 * 1024, .whole_system = true};

static struct err *archive_failed(struct archive *a, const char *file)
{
    const char *text = archive_error_string(a);

    return err_new(ERR_INVALID, "'%s': %s", file, text ? text : "no archive");
}

static struct err *unpack_image(int dir, const char *file, int64_t *ret_bytes)
{
    autofd int fd = open(file, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    struct archive *a;
    struct stat st;
    struct err *e;

    if (fd < 0)
        return err_recode(err_errno(errno, "image archive '%s'", file), errno == ENOENT ? ERR_NOT_FOUND : ERR_HOST);
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
        return err_new(ERR_INVALID, "image archive '%s' is no regular file", file);
    a = archive_read_new();
    if (!a)
        abort();
    archive_read_support_format_tar(a);
    archive_read_support_filter_gzip(a);
    archive_read_support_filter_xz(a);
    archive_read_support_filter_zstd(a);
    if (archive_read_open_fd(a, fd, BLOCK) != ARCHIVE_OK)
        e = archive_failed(a, file);
    else
        e = err_wrap(unpack_archive(a, dir, &image_rules, ret_bytes), "'%s'", file);
    archive_read_free(a);
    return e;
}

/* A tree without an init is none we could start: better said now than by a container that does not. */
static struct err *check_system(int dir)
{
    struct stat st;

    if (confined_exists(dir, "/sbin/init") && confined_exists(dir, "/etc/passwd") && fstat(dir, &st) == 0 &&
        st.st_uid == 0)
        return NULL;
    return err_new(ERR_INVALID, "the archive holds no root file system with /sbin/init");
}

static struct err *fill(const char *temporary, const char *file, int64_t *ret_bytes)
{
    autofd int dir = -1;
    char text[32];
    struct err *e = confined_open_root(temporary, &dir);

    if (!e)
        e = failpoint("image.unpack");
    if (!e)
        e = unpack_image(dir, file, ret_bytes);
    if (!e)
        e = check_system(dir);
    if (e)
        return e;
    snprintf(text, sizeof(text), "%lld", (long long)*ret_bytes);
    if (fsetxattr(dir, BYTES_XATTR, text, strlen(text), 0) < 0)
        return err_errno(errno, "size of the image");
    return NULL;
}

static int64_t recorded_bytes(const char *path)
{
    char text[32] = "";
    int64_t bytes = 0;

    if (lgetxattr(path, BYTES_XATTR, text, sizeof(text) - 1) <= 0 || !str_to_i64(text, &bytes))
        return 0;
    return bytes;
}

struct err *image_import(const char *pool, const char *image, const char *file, int64_t *ret_bytes)
{
    autofree char *canonical = image_name_canonical(image);
    autofree char *images = layout_images(pool);
    autofree char *name = NULL, *temporary = NULL, *final = NULL;
    autofd int lock = -1;
    struct err *e;

    if (!canonical)
        return err_new(ERR_INVALID, "'%s' is no image name", image);
    name = image_file_name(canonical);
    temporary = layout_temporary(images, name);
    final = layout_image(pool, canonical);
    e = install_begin(pool, images, &lock);
    if (e)
        return err_wrap(e, "image %s", canonical);
    if (subvolume_exists(final)) {
        *ret_bytes = recorded_bytes(final);
        return NULL;
    }
    e = subvolume_create(temporary);
    if (!e)
        e = fill(temporary, file, ret_bytes);
    if (!e)
        e = install_finish(temporary, final);
    if (e)
        err_ignore(subvolume_delete(pool, temporary));
    return err_wrap(e, "image %s", canonical);
}
