/* SPDX-License-Identifier: Apache-2.0 */
/* The bytes are on disk and their digest is right before anything of them is read. */
#include "images/image.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "base/failpoint.h"
#include "base/fd.h"
#include "base/json_table.h"
#include "base/str.h"
#include "images/image_file.h"
#include "images/image_unpack.h"
#include "provisioning/confined.h"
#include "provisioning/install.h"
#include "storage/layout.h"
#include "storage/subvolume.h"

/* A tree without an init is none we could start: better said now than by a container that does not. */
static struct err *check_system(int dir)
{
    struct stat st;

    if (confined_exists(dir, "/sbin/init") && confined_exists(dir, "/etc/passwd") && fstat(dir, &st) == 0 &&
        st.st_uid == 0)
        return NULL;
    return err_new(ERR_INVALID, "the archive holds no root file system with /sbin/init");
}

struct position {
    const struct image_import *in;
    const struct image_files *files;
};

static void tell_position(void *owner)
{
    const struct position *p = owner;
    off_t at = lseek(p->files->root, 0, SEEK_CUR); /* the child reads through the same open file */

    if (p->in->progress && at > 0)
        p->in->progress(p->in->owner, at, p->files->input_bytes);
}

static struct err *fill(const struct image_import *in, const char *temporary, struct image_files *files, json_t **ret)
{
    struct position position = {in, files};
    autofd int dir = -1;
    char text[32];
    struct err *e = confined_open_root(temporary, &dir);

    files->owner = &position;
    files->tick = tell_position;
    if (!e)
        e = failpoint("image.unpack");
    if (!e)
        e = image_unpack(files, dir, ret);
    if (!e)
        e = check_system(dir);
    if (e)
        return e;
    snprintf(text, sizeof(text), "%lld", (long long)json_integer_value(json_object_get(*ret, "bytes")));
    if (fsetxattr(dir, IMAGE_BYTES_XATTR, text, strlen(text), 0) < 0)
        return err_errno(errno, "size of the image");
    return NULL;
}

/* The files are there and are what they should be. */
static struct err *install(const struct image_import *in, struct image_files *files, const char *fingerprint,
                           json_t **ret)
{
    autofree char *images = layout_images(in->pool), *temporary = layout_temporary(images, fingerprint);
    autofree char *final = layout_image(in->pool, fingerprint);
    autofd int lock = -1;
    struct err *e = install_begin(in->pool, images, &lock);

    if (e)
        return e;
    if (subvolume_exists(final)) {
        *ret = json_pack("{s:I, s:n}", "bytes", (json_int_t)image_recorded_bytes(final), "metadata");
        return NULL;
    }
    e = subvolume_create(temporary);
    if (!e)
        e = fill(in, temporary, files, ret);
    if (!e)
        e = install_finish(temporary, final);
    if (e)
        err_ignore(subvolume_delete(in->pool, temporary));
    return e;
}

struct err *image_import(const struct image_import *in, json_t **ret)
{
    struct image_files files = {.root = -1, .metadata = -1};
    char fingerprint[IMAGE_FINGERPRINT_SIZE];
    autojson made = NULL;
    struct err *e = NULL;

    if (in->fingerprint && !image_fingerprint_ok(in->fingerprint))
        return err_field("fingerprint", "must be 64 lower case hex digits");
    e = image_files_open(in, &files, fingerprint);
    if (!e && in->fingerprint && strcmp(fingerprint, in->fingerprint) != 0)
        e = err_reason(err_new(ERR_INVALID, "its digest is %s and not %s", fingerprint, in->fingerprint),
                       "IMAGE_DIGEST_WRONG");
    if (!e)
        e = install(in, &files, fingerprint, &made);
    if (!e)
        *ret =
            json_pack("{s:s, s:O, s:I, s:O}", "fingerprint", fingerprint, "size_bytes", json_object_get(made, "bytes"),
                      "archive_bytes", (json_int_t)files.input_bytes, "metadata", json_object_get(made, "metadata"));
    fd_closep(&files.root);
    fd_closep(&files.metadata);
    return err_wrap(e, "image");
}

/* The image itself first: a base that is being made meanwhile finds that it is gone, or is found here. */
struct err *image_remove(const char *pool, const char *fingerprint)
{
    struct err *e = NULL;

    if (!image_fingerprint_ok(fingerprint))
        return err_field("fingerprint", "must be 64 lower case hex digits");
    for (int64_t n = 0; !e && n <= IMAGE_BASES_MAX; n++) {
        autofree char *path = image_base_path(pool, fingerprint, n);

        e = subvolume_delete(pool, path);
        if (!e && n == 0)
            e = failpoint("image.removed");
    }
    return e;
}
