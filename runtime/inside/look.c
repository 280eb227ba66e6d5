/* SPDX-License-Identifier: Apache-2.0 */
/* A service manager that does not answer does not cost the list of sockets, which is told first. */
#include "runtime/inside/look.h"

#include <linux/capability.h>

#include "runtime/inside/inside.h"

enum { PATIENCE_MS = 2500 };
/* To see other users' processes and their files in /proc. */
#define CAPABILITIES (1u << CAP_SYS_PTRACE | 1u << CAP_DAC_READ_SEARCH)

static void look(void *arg)
{
    const struct job_look *a = arg;

    inside_tell("network_services", look_sockets());
    if (a->services && inside_keep_capabilities(0))
        inside_tell("services", look_units());
}

struct err *job_do_look(const struct job *job, void *args, json_t **ret)
{
    return inside_ask(job, look, args, CAPABILITIES, PATIENCE_MS, ret);
}
