/* SPDX-License-Identifier: Apache-2.0 */
#include "runtime/seeding.h"

#include "base/fd.h"
#include "provisioning/confined.h"
#include "provisioning/seed.h"

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
