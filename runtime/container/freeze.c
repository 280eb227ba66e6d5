/* SPDX-License-Identifier: Apache-2.0 */
#include "runtime/container/cgroup.h"
#include "runtime/container/presence.h"

#define FREEZE_MS 10000

static struct err *set_frozen(const struct job *job, bool frozen)
{
    struct presence p;

    presence_look(job, &p);
    if (!p.init)
        return err_new(ERR_WRONG_STATE, "the container is not running");
    return cgroup_freeze(job->target.cgroup, job->name, frozen, FREEZE_MS);
}

struct err *job_do_freeze(const struct job *job, UNUSED void *args, UNUSED json_t **ret)
{
    struct err *e = set_frozen(job, true);

    /* Half frozen would be neither. */
    if (e && e->code == ERR_TIMEOUT)
        err_ignore(set_frozen(job, false));
    return e;
}

struct err *job_do_thaw(const struct job *job, UNUSED void *args, UNUSED json_t **ret)
{
    return set_frozen(job, false);
}
