/* SPDX-License-Identifier: Apache-2.0 */
/* From a simplestreams server into the pool. Parts that were fetched stay for a week, so the next try goes on. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>

#include "base/failpoint.h"
#include "base/fd.h"
#include "base/json_table.h"
#include "base/str.h"
#include "images/fetch.h"
#include "images/image.h"
#include "storage/layout.h"
#include "storage/subvolume.h"

#define PART ".part-"
#define PART_DAYS 7

struct progress {
    const struct image_fetch *in;
    int fd;
    int64_t before, total;
};

static void tell(void *owner)
{
    const struct progress *p = owner;
    struct stat st;

    if (p->in->progress && p->fd >= 0 && fstat(p->fd, &st) == 0)
        p->in->progress(p->in->owner, p->before + st.st_size, p->total);
}

static void remove_old_parts(const char *images)
{
    DIR *dir = opendir(images);
    const struct dirent *entry;
    struct stat st;

    while (dir && (entry = readdir(dir)))
        if (strncmp(entry->d_name, PART, strlen(PART)) == 0 &&
            fstatat(dirfd(dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
            st.st_mtime < time(NULL) - PART_DAYS * 24 * 3600)
            (void)unlinkat(dirfd(dir), entry->d_name, 0);
    if (dir)
        closedir(dir);
}

static struct err *fetch_part(const struct fetch *f, const struct streams_file *file, const char *path,
                              struct progress *p)
{
    autofd int fd = open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0644);
    struct err *e;

    if (fd < 0)
        return err_errno(errno, "'%s'", path);
    while (flock(fd, LOCK_EX) < 0) /* another job may be at the same file */
        if (errno != EINTR)
            return err_errno(errno, "lock of '%s'", path);
    p->fd = fd;
    e = fetch_file(f, file, fd);
    p->fd = -1;
    p->before += file->size;
    if (!e && p->in->progress)
        p->in->progress(p->in->owner, p->before, p->total);
    return e;
}

static struct err *fetch_and_import(const struct image_fetch *in, struct fetch *f, const struct streams_image *image,
                                    json_t **ret)
{
    autofree char *images = layout_images(in->pool);
    char *paths[STREAMS_FILES] = {0};
    struct progress p = {.in = in, .fd = -1};
    struct image_import import = {.pool = in->pool};
    struct err *e = fd_mkdirs(images, 0700);

    remove_old_parts(images);
    f->owner = &p;
    f->tick = tell;
    for (size_t i = 0; i < image->count; i++)
        p.total += image->files[i].size;
    for (size_t i = 0; i < image->count; i++) {
        paths[i] = str_fmt("%s/" PART "%s", images, image->files[i].sha256);
        if (!e)
            e = fetch_part(f, &image->files[i], paths[i], &p);
    }
    if (!e)
        e = failpoint("image.fetched");
    import.file = paths[image->count - 1];
    import.metadata_file = image->count > 1 ? paths[0] : NULL;
    import.fingerprint = *image->fingerprint ? image->fingerprint : NULL;
    if (!e)
        e = image_import(&import, ret);
    for (size_t i = 0; i < image->count; i++) {
        if (!e || e->code == ERR_INVALID)
            (void)unlink(paths[i]);
        free(paths[i]);
    }
    return e;
}

static struct err *from_one(const struct image_fetch *in, const char *url, json_t **ret)
{
    struct fetch f = {.url = url, .ca = in->ca_file};
    struct streams_image image = {0};
    struct err *e = fetch_find(&f, in->name, &image);
    autofree char *there = !e && *image.fingerprint ? layout_image(in->pool, image.fingerprint) : NULL;

    if (!e && in->look)
        *ret = json_object();
    else if (!e && there && subvolume_exists(there))
        *ret = json_pack("{s:s}", "fingerprint", image.fingerprint); /* nothing newer */
    else if (!e)
        e = fetch_and_import(in, &f, &image, ret);
    if (!e)
        json_object_set_new(*ret, "serial", json_string(image.serial));
    streams_image_clear(&image);
    return e;
}

struct err *image_fetch(const struct image_fetch *in, json_t **ret)
{
    struct err *e = err_new(ERR_NOT_FOUND, "this server has no remote that images come from");
    json_t *url;
    size_t i;

    json_array_foreach((json_t *)(uintptr_t)in->urls, i, url)
    {
        err_free(e);
        e = json_is_string(url) ? from_one(in, json_string_value(url), ret)
                                : err_new(ERR_INVALID, "a remote is no URL");
        if (!e) {
            json_object_set(*ret, "url", url);
            return NULL;
        }
        if (e->code != ERR_NOT_FOUND)
            break;
    }
    return err_wrap(e, "image '%s'", in->name);
}
