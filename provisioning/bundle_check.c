/* SPDX-License-Identifier: Apache-2.0 */
/* A look at a bundle where no node is: everything that an install does, in a directory that goes again. */
#include <dirent.h>
#include <errno.h>
#include <ftw.h>
#include <stdio.h>

#include "base/fd.h"
#include "base/str.h"
#include "provisioning/bundle.h"
#include "provisioning/confined.h"

enum { OPEN_MAX = 16 };

static int remove_one(const char *path, UNUSED const struct stat *st, UNUSED int type, UNUSED struct FTW *where)
{
    return remove(path);
}

struct err *bundle_check(const char *file, const char *public_key, json_t **ret_manifest)
{
    const char *parent = getenv("TMPDIR");
    autofree char *dir = str_fmt("%s/nodectl-kit-XXXXXX", str_empty(parent) ? "/tmp" : parent);
    autofd int fd = -1;
    struct err *e;

    if (!mkdtemp(dir))
        return err_errno(errno, "cannot make '%s'", dir);
    e = confined_open_root(dir, &fd);
    if (!e)
        e = bundle_unpack(file, public_key, fd, ret_manifest);
    (void)nftw(dir, remove_one, OPEN_MAX, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
    return e;
}
