/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An image from a container's root file system. There is no archive that it came from, so its fingerprint is the digest
 * of its tree as an archive would have it (provisioning/tree_digest.h).
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/xattr.h>

#include "base/failpoint.h"
#include "base/fd.h"
#include "base/json_table.h"
#include "base/str.h"
#include "images/image.h"
#include "images/image_file.h"
#include "provisioning/confined.h"
#include "provisioning/env.h"
#include "provisioning/install.h"
#include "provisioning/pack.h"
#include "provisioning/sandbox.h"
#include "provisioning/seed.h"
#include "storage/layout.h"
#include "storage/subvolume.h"

/* What belongs to one container and to nobody else; a container that is made of the image gets its own. */
static struct err *forget_identity(int dir)
{
    static const char *const files[] = {
        "/etc/hostname",
        "/etc/hosts",
        "/etc/resolv.conf",
        "/etc/profile.d/hoody-00-container.sh",
        "/etc/systemd/system.conf.d/90-hoody.conf",
        "/var/lib/dbus/machine-id",
        "/var/lib/systemd/random-seed",
    };
    autojson nothing = json_object();
    struct err *e = seed_ssh_key(dir, NULL);

    if (!e)
        e = env_write(dir, "", nothing);
    if (!e)
        e = confined_remove_prefix(dir, "/etc/ssh", "ssh_host_");
    for (size_t i = 0; !e && i < ARRAY_LEN(files); i++)
        e = confined_remove(dir, files[i]);
    return e ? e : confined_write(dir, "/etc/machine-id", "", 0, 0444, (struct confined_owner){0, 0});
}

/* In the child, whose "/" is the tree. */
static struct err *digest_tree(void *arg, json_t **ret)
{
    const int *null = arg;
    const struct pack_config config = {.fd = *null};
    autofd int dir = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    auto_(pack_free) struct pack *p = NULL;
    char digest[IMAGE_FINGERPRINT_SIZE];
    int64_t bytes = 0;
    struct err *e = dir < 0 ? err_errno(errno, "the tree") : pack_new(&config, &p);

    if (!e)
        e = pack_tree(p, dir, NULL, digest);
    if (!e)
        e = pack_finish(p, &bytes);
    if (!e)
        *ret = json_pack("{s:s, s:I}", "fingerprint", digest, "bytes", (json_int_t)bytes);
    return e;
}

static struct err *measure(int dir, json_t **ret)
{
    autofd int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
    const struct sandbox s = {.root = dir, .rights = SANDBOX_READS, .fds = &null, .fd_count = 1};
    char text[32];
    struct err *e = null < 0 ? err_errno(errno, "/dev/null") : sandbox_run(&s, digest_tree, &null, ret);

    if (!e && !image_fingerprint_ok(json_string_value(json_object_get(*ret, "fingerprint"))))
        e = err_new(ERR_INTERNAL, "the digest of the tree is none");
    if (e)
        return e;
    snprintf(text, sizeof(text), "%lld", (long long)json_integer_value(json_object_get(*ret, "bytes")));
    return fsetxattr(dir, IMAGE_BYTES_XATTR, text, strlen(text), 0) < 0 ? err_errno(errno, "size of the image") : NULL;
}

static struct err *make(const char *temporary, json_t **ret)
{
    autofd int dir = -1;
    struct err *e = confined_open_root(temporary, &dir);

    if (!e)
        e = forget_identity(dir);
    if (!e)
        e = failpoint("image.published");
    return e ? e : measure(dir, ret);
}

struct err *image_publish(const char *pool, const char *source, json_t **ret)
{
    autofree char *images = layout_images(pool), *temporary = layout_temporary(images, "publish");
    autofree char *final = NULL;
    autojson made = NULL;
    autofd int lock = -1;
    struct err *e = install_begin(pool, images, &lock);

    if (!e)
        e = subvolume_snapshot(source, temporary, false);
    if (!e)
        e = make(temporary, &made);
    if (!e) {
        final = layout_image(pool, json_string_value(json_object_get(made, "fingerprint")));
        e = subvolume_exists(final) ? subvolume_delete(pool, temporary) : install_finish(temporary, final);
    }
    if (!e)
        *ret = json_pack("{s:O, s:O, s:i, s:n}", "fingerprint", json_object_get(made, "fingerprint"), "size_bytes",
                         json_object_get(made, "bytes"), "archive_bytes", 0, "metadata");
    else
        err_ignore(subvolume_delete(pool, temporary));
    return err_wrap(e, "image");
}
