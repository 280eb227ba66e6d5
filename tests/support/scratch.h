/* SPDX-License-Identifier: Apache-2.0 */
/* A scratch directory of a test's own, in memory where possible, and fingerprints of trees. Inline: a test links no
 * library of ours.
 */
#pragma once

#include <fcntl.h>
#include <fts.h>
#include <ftw.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/str.h"

static inline int scratch_remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

/* rm -rf, never through a symlink. */
static inline void scratch_remove(const char *path)
{
    nftw(path, scratch_remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* A fresh directory; the caller frees the path and removes the tree. */
static inline char *scratch_new(void)
{
    char *path = str_fmt("%s/noded-test-XXXXXX", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");

    if (!mkdtemp(path) || chmod(path, 0755) < 0)
        abort();
    return path;
}

static inline void scratch_write(const char *dir, const char *name, const char *text)
{
    autofree char *path = str_fmt("%s/%s", dir, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

    if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text))
        abort();
    close(fd);
}

static inline int scratch_by_name(const FTSENT **a, const FTSENT **b)
{
    return strcmp((*a)->fts_name, (*b)->fts_name);
}

static inline void scratch_print_one(FILE *out, const FTSENT *entry, size_t prefix)
{
    const struct stat *st = entry->fts_statp;

    fprintf(out, "%s %o %u:%u", entry->fts_path + prefix, st->st_mode, st->st_uid, st->st_gid);
    if (S_ISREG(st->st_mode)) {
        autofree char *text = NULL;

        err_ignore(fd_read_file(entry->fts_accpath, 1 << 20, &text, NULL));
        fprintf(out, " [%s]", text ? text : "?");
    }
    if (S_ISLNK(st->st_mode)) {
        char target[PATH_MAX] = "";

        if (readlink(entry->fts_accpath, target, sizeof(target) - 1) > 0)
            fprintf(out, " -> %s", target);
    }
    fputc('\n', out);
}

/* Names, kinds, modes, owners and contents of everything below a directory, sorted, as text; the caller frees it. */
static inline char *scratch_fingerprint(const char *dir)
{
    char *text = NULL, *roots[] = {(char *)(uintptr_t)dir, NULL};
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    FTS *fts = fts_open(roots, FTS_PHYSICAL | FTS_NOCHDIR, scratch_by_name);
    FTSENT *entry;

    if (!out || !fts)
        abort();
    while ((entry = fts_read(fts)))
        if (entry->fts_info != FTS_DP)
            scratch_print_one(out, entry, strlen(dir));
    fts_close(fts);
    fclose(out);
    return text;
}
