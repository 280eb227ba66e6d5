/* SPDX-License-Identifier: Apache-2.0 */
#include "base/confine.h"

#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { NOBODY = 65534 };

struct err *confine_root(int dir)
{
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || fchdir(dir) < 0 || chroot(".") < 0 || chdir("/") < 0)
        return err_errno(errno, "cannot confine a process to its directory");
    return NULL;
}

static bool set_limits(unsigned files)
{
    const struct rlimit no_core = {0, 0}, few = {files, files};

    return setrlimit(RLIMIT_CORE, &no_core) == 0 && (!files || setrlimit(RLIMIT_NOFILE, &few) == 0);
}

/* What is not in the bounding set no program that is run gets back; those that it has it keeps without. */
static bool empty_bounds(void)
{
    for (int cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++)
        if (prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0)
            return false;
    return true;
}

static bool become_nobody(void)
{
    return setgroups(0, NULL) == 0 && setresgid(NOBODY, NOBODY, NOBODY) == 0 && setresuid(NOBODY, NOBODY, NOBODY) == 0;
}

static bool set_rights(uint64_t keep)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2] = {
        {.effective = (uint32_t)keep, .permitted = (uint32_t)keep},
        {.effective = (uint32_t)(keep >> 32), .permitted = (uint32_t)(keep >> 32)}};

    return syscall(SYS_capset, &header, data) == 0;
}

struct err *confine(const struct confinement *c)
{
    /* The death signal comes late: a change of the account takes it away. */
    if (!set_limits(c->files) || !empty_bounds() || (c->nobody && !become_nobody()) ||
        !set_rights(c->nobody ? 0 : c->rights) || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
        prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0 || prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
        return err_errno(errno, "cannot confine a process");
    return NULL;
}
