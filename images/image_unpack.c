/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One way for all forms: a tar archive, entry by entry, through provisioning/unpack.h, in a child that has the image's
 * directory as its "/". A squashfs is turned into a tar stream by sqfs2tar, which runs as nobody.
 */
#include "images/image_unpack.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/json_table.h"
#include "base/str.h"
#include "images/image.h"
#include "provisioning/sandbox.h"
#include "provisioning/unpack.h"

#define SQFS2TAR "/usr/bin/sqfs2tar"
#define BLOCK 262144
#define ENTRIES_MAX 2000000
#define BYTES_MAX (INT64_C(64) << 30)
/* A root file system shrinks to a third; zeros shrink to anything. */
#define RATIO_MAX 200
#define SMALL (INT64_C(256) << 20) /* that much is taken from any archive */

struct unpacking {
    const struct image_files *files;
    int tar; /* where the root file system's archive is read */
    bool decided, in_lxd_form, metadata_only;
    json_t *metadata;
};

bool image_is_squashfs(int fd)
{
    char magic[4];

    return pread(fd, magic, sizeof(magic), 0) == sizeof(magic) && memcmp(magic, "hsqs", sizeof(magic)) == 0;
}

static bool is_part(const char *path, const char *first)
{
    size_t len = strlen(first);

    return strncmp(path, first, len) == 0 && (path[len] == '/' || path[len] == '\0');
}

static struct err *read_metadata(struct unpacking *u, const struct unpack_entry *x)
{
    autofree char *text = NULL;
    la_int64_t size = archive_entry_size(x->entry);

    if (archive_entry_filetype(x->entry) != AE_IFREG || archive_entry_hardlink(x->entry))
        return err_new(ERR_INVALID, "it is no regular file");
    if (u->metadata)
        return err_new(ERR_INVALID, "a duplicate: there is something of this name");
    if (size < 0 || size > IMAGE_METADATA_MAX)
        return err_new(ERR_TOO_LARGE, "it has more than %d bytes", IMAGE_METADATA_MAX);
    text = mem_alloc(1, (size_t)size + 1);
    if (archive_read_data(x->archive, text, (size_t)size) != size)
        return err_new(ERR_INVALID, "it cannot be read");
    return image_metadata_parse(text, (size_t)size, &u->metadata);
}

/* An archive in LXD's form has nothing but these at its top. */
static struct err *look_lxd(struct unpacking *u, struct unpack_entry *x)
{
    bool is_dir = archive_entry_filetype(x->entry) == AE_IFDIR && !archive_entry_hardlink(x->entry);
    size_t len = strlen("rootfs");

    if (str_eq(x->path, "metadata.yaml")) {
        x->skip = true;
        return read_metadata(u, x);
    }
    if (is_part(x->path, "templates")) {
        x->skip = true;
        return NULL;
    }
    if (u->metadata_only || !is_part(x->path, "rootfs"))
        return err_new(ERR_INVALID, "an image in two files has only metadata.yaml and templates in the first, one in a "
                                    "single file rootfs, too, and nothing else");
    if (str_eq(x->path, "rootfs") && !is_dir)
        return err_new(ERR_INVALID, "it is no directory");
    x->strip = "rootfs";
    x->skip = x->path[len] == '\0';
    memmove(x->path, x->path + len, strlen(x->path + len) + 1);
    if (x->path[0] == '/')
        memmove(x->path, x->path + 1, strlen(x->path));
    return NULL;
}

static struct err *look(void *owner, struct unpack_entry *x)
{
    struct unpacking *u = owner;

    /* The top has root as its owner and is open to all, whoever packed it. */
    if (x->path[0] == '\0') {
        x->skip = true;
        return archive_entry_filetype(x->entry) == AE_IFDIR ? NULL : err_new(ERR_INVALID, "the root is no directory");
    }
    if (!u->decided) {
        u->decided = true;
        u->in_lxd_form =
            is_part(x->path, "metadata.yaml") || is_part(x->path, "templates") || is_part(x->path, "rootfs");
    }
    return u->in_lxd_form ? look_lxd(u, x) : NULL;
}

static struct err *unpack_tar(struct unpacking *u, int fd, int dir, int64_t *ret_bytes)
{
    const struct unpack_rules rules = {
        .max_entries = ENTRIES_MAX,
        .max_bytes = MIN(BYTES_MAX, MAX(SMALL, u->files->input_bytes * RATIO_MAX)),
        .whole_system = true,
        .owner = u,
        .look = look,
    };
    struct archive *a = archive_read_new();
    struct err *e;

    if (!a)
        abort();
    archive_read_support_format_tar(a);
    archive_read_support_filter_gzip(a);
    archive_read_support_filter_xz(a);
    archive_read_support_filter_zstd(a);
    if (archive_read_open_fd(a, fd, BLOCK) != ARCHIVE_OK)
        e = err_new(ERR_INVALID, "%s", archive_error_string(a) ? archive_error_string(a) : "no archive");
    else
        e = unpack_archive(a, dir, &rules, ret_bytes);
    archive_read_free(a);
    return e;
}

/* In the child, whose "/" is the image's directory. */
static struct err *unpack_all(void *arg, json_t **ret)
{
    struct unpacking *u = arg;
    autofd int dir = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int64_t bytes = 0;
    struct err *e = dir < 0 ? err_errno(errno, "the image's directory") : NULL;

    if (!e && u->files->metadata >= 0) {
        u->decided = u->in_lxd_form = u->metadata_only = true;
        e = err_wrap(unpack_tar(u, u->files->metadata, dir, &bytes), "metadata");
        if (!e && !u->metadata)
            e = err_new(ERR_INVALID, "the first file has no metadata.yaml");
        u->in_lxd_form = u->metadata_only = false;
    }
    if (!e)
        e = unpack_tar(u, u->tar, dir, &bytes);
    if (!e && u->in_lxd_form && !u->metadata)
        e = err_new(ERR_INVALID, "the archive has rootfs and no metadata.yaml");
    if (!e && (fchown(dir, 0, 0) < 0 || fchmod(dir, 0755) < 0))
        e = err_errno(errno, "the image's directory");
    if (!e)
        *ret = json_pack("{s:I, s:o?}", "bytes", (json_int_t)bytes, "metadata", u->metadata);
    return e;
}

static struct err *run(struct unpacking *u, int dir, json_t **ret)
{
    const int fds[] = {u->tar, u->files->metadata};
    const struct sandbox s = {.root = dir,
                              .rights = SANDBOX_MAKES,
                              .fds = fds,
                              .fd_count = ARRAY_LEN(fds),
                              .owner = u->files->owner,
                              .tick = u->files->tick};

    return sandbox_run(&s, unpack_all, u, ret);
}

struct err *image_unpack(const struct image_files *files, int dir, json_t **ret)
{
    /* Not with --no-skip: it would end at the first socket. Sockets are left out, as of a tar archive (unpack_make.c),
     * and so is what has a name that cannot be one. */
    static const char *const argv[] = {SQFS2TAR, "/proc/self/fd/0", NULL};
    struct unpacking u = {.files = files, .tar = files->root};
    struct err *e, *failed;
    int pair[2];
    pid_t pid;

    if (!image_is_squashfs(files->root))
        return run(&u, dir, ret);
    if (pipe2(pair, O_CLOEXEC) < 0)
        return err_errno(errno, "pipe");
    u.tar = pair[0];
    e = sandbox_spawn(argv, files->root, pair[1], &pid);
    close(pair[1]);
    if (!e) {
        e = run(&u, dir, ret);
        close(pair[0]);
        failed = sandbox_reap(pid, "squashfs");
        return err_first(failed, e);
    }
    close(pair[0]);
    return e;
}
