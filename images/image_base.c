/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>

#include "base/failpoint.h"
#include "base/fd.h"
#include "base/str.h"
#include "images/image.h"
#include "provisioning/install.h"
#include "storage/layout.h"
#include "storage/receive.h"
#include "storage/send.h"
#include "storage/subvolume.h"

/* The name of something half-made, below the images' directory. */
static const char *name_in(const char *path)
{
    return strrchr(path, '/') + 1;
}

static struct err *feed(void *owner, const void *data, size_t len)
{
    return receive_feed(owner, data, len);
}

static struct err *copy(const char *image, const char *dir, const char *temporary, int64_t reserve)
{
    const struct receive_limits limits = {.bytes = INT64_MAX, .reserve = reserve};
    auto_(receive_free) struct receiver *receiver = NULL;
    struct receive_info info;
    autofd int fd = open(dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    struct err *e;

    if (fd < 0)
        return err_errno(errno, "'%s'", dir);
    e = receive_begin(fd, name_in(temporary), -1, &limits, &receiver);
    if (!e)
        e = send_stream(image, NULL, feed, receiver);
    if (!e)
        e = failpoint("image.base");
    return e ? e : receive_end(receiver, &info);
}

static struct err *check(const char *fingerprint, int64_t n)
{
    if (!image_fingerprint_ok(fingerprint) || n < 1 || n > IMAGE_BASES_MAX)
        return err_field("base", "no base of an image");
    return NULL;
}

struct err *image_base_remove(const char *pool, const char *fingerprint, int64_t n)
{
    autofree char *path = NULL;
    struct err *e = check(fingerprint, n);

    if (e)
        return e;
    path = image_base_path(pool, fingerprint, n);
    e = failpoint("image.base_removed");
    return e ? e : subvolume_delete(pool, path);
}

struct err *image_base_make(const char *pool, const char *fingerprint, int64_t n, int64_t reserve)
{
    autofree char *images = layout_images(pool), *image = NULL, *final = NULL, *temporary = NULL;
    autofd int lock = -1;
    struct err *e;

    e = check(fingerprint, n);
    if (e)
        return e;
    image = layout_image(pool, fingerprint);
    final = image_base_path(pool, fingerprint, n);
    temporary = layout_temporary(images, name_in(final));
    e = install_begin(pool, images, &lock);
    if (e || subvolume_exists(final))
        return e;
    e = copy(image, images, temporary, reserve);
    if (!e)
        e = install_finish(temporary, final);
    if (!e && !subvolume_exists(image)) { /* it was removed meanwhile */
        err_ignore(subvolume_delete(pool, final));
        e = err_new(ERR_NOT_FOUND, "the image is gone");
    }
    if (e)
        err_ignore(subvolume_delete(pool, temporary));
    return err_wrap(e, "base %lld of image %.12s", (long long)n, fingerprint);
}
