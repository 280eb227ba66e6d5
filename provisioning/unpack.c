/* SPDX-License-Identifier: Apache-2.0 */
/* Times and modes of directories are set at the end, backwards, because writing members changes them. */
#include "provisioning/unpack_internal.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "base/str.h"
#include "provisioning/tree_digest.h"

static int by_path(const void *x, const void *y)
{
    const struct late_dir *const *dx = x, *const *dy = y;

    return strcmp((*dx)->path, (*dy)->path);
}

/* A directory is found by its entries before its own comes, so only the end tells whether that came twice. */
static struct err *check_dirs(const struct unpack *u)
{
    autofree const struct late_dir **sorted = mem_new_array(const struct late_dir *, u->dir_count + 1);

    for (size_t i = 0; i < u->dir_count; i++)
        sorted[i] = &u->dirs[i];
    qsort(sorted, u->dir_count, sizeof(*sorted), by_path);
    for (size_t i = 1; i < u->dir_count; i++)
        if (strcmp(sorted[i - 1]->path, sorted[i]->path) == 0)
            return err_new(ERR_INVALID, "the directory '%.200s' is there twice: a duplicate", sorted[i]->path);
    return NULL;
}

static struct err *finish_dirs(struct unpack *u)
{
    for (size_t i = u->dir_count; i > 0; i--) {
        const struct late_dir *late = &u->dirs[i - 1];
        struct timespec times[2] = {late->mtime, late->mtime};
        autofd int fd = unpack_walk(u->root, late->path, false);
        struct err *e = fd >= 0 && late->attributes ? unpack_xattrs(late->attributes, fd, late->path) : NULL;

        if (e)
            return err_wrap(e, "'%.200s'", late->path);
        if (fd < 0 || fchmod(fd, late->mode) < 0 || futimens(fd, times) < 0)
            return err_errno(errno, "mode and time of '%s'", late->path);
    }
    return NULL;
}

/* What is left out has to be read, too. */
static struct err *count_skipped(struct unpack *u, struct archive_entry *entry)
{
    u->bytes += MAX(archive_entry_size(entry), 0);
    return u->bytes > u->rules->max_bytes ? unpack_too_much(u) : NULL;
}

static struct err *unpack_all(struct unpack *u)
{
    struct archive_entry *entry;
    struct err *e;
    int r;

    while ((r = archive_read_next_header(u->a, &entry)) != ARCHIVE_EOF) {
        if (r != ARCHIVE_OK && r != ARCHIVE_WARN)
            return unpack_failed(u->a, "reading");
        if (++u->entries > u->rules->max_entries)
            return err_new(ERR_TOO_LARGE, "more than %lld entries", (long long)u->rules->max_entries);
        u->now = (struct unpack_entry){.archive = u->a, .entry = entry};
        e = unpack_path(archive_entry_pathname(entry), u->now.path);
        if (!e)
            e = unpack_attributes(entry);
        if (!e && u->rules->look)
            e = u->rules->look(u->rules->owner, &u->now);
        if (!e && u->now.digest)
            tree_digest_entry(u->now.digest, u->now.path, entry);
        if (!e)
            e = u->now.skip ? count_skipped(u, entry) : unpack_make(u, entry, u->now.path);
        if (e)
            return err_wrap(e, "entry %lld '%.200s'", (long long)u->entries, archive_entry_pathname(entry));
    }
    e = check_dirs(u);
    return e ? e : finish_dirs(u);
}

struct err *unpack_archive(struct archive *a, int dir_fd, const struct unpack_rules *rules, int64_t *ret_bytes)
{
    struct unpack u = {.a = a, .rules = rules, .root = dir_fd, .parent = -1};
    struct err *e = unpack_all(&u);

    fd_closep(&u.parent);
    for (size_t i = 0; i < u.dir_count; i++) {
        free(u.dirs[i].path);
        archive_entry_free(u.dirs[i].attributes);
    }
    free(u.dirs);
    if (!e && ret_bytes)
        *ret_bytes = u.bytes;
    return e;
}
