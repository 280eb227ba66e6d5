/* SPDX-License-Identifier: Apache-2.0 */
#include "runtime/container/seeding.h"

#include <errno.h>
#include <stdio.h>

#include "base/failpoint.h"
#include "base/fd.h"
#include "base/str.h"
#include "provisioning/confined.h"
#include "provisioning/seed.h"
#include "storage/layout.h"

struct err *seeding(const struct job *job, const char *root, const json_t *j)
{
    struct seed s = {0};
    struct err *e = json_table_load(&seed_table, j, &s, NULL);
    autofd int fd = -1;

    if (!e)
        e = confined_open_root(root, &fd);
    if (!e)
        e = seed_rootfs(fd, &s, job->target.pool);
    json_table_clear(&seed_table, &s);
    return err_wrap(e, "seeding");
}

struct err *seeding_imported(const struct job *job, const char *made, const struct job_import *a, const json_t *header)
{
    autofree char *rootfs = layout_rootfs(job->target.pool, job->target.slot);
    const char *name = json_string_value(json_object_get(json_object_get(header, "container"), "name"));
    autofree char *hostname = a->rename && name ? str_host_label(name) : NULL;
    autojson seed = json_copy(a->seed);
    struct err *e;

    if (hostname)
        json_object_set_new(seed, "hostname", json_string(hostname));
    e = seeding(job, made, seed);
    if (!e)
        e = failpoint("import.seeded");
    if (!e && rename(made, rootfs) < 0)
        e = err_errno(errno, "cannot rename the root file system");
    return e;
}
