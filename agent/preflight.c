/* SPDX-License-Identifier: Apache-2.0 */
/* With the default of 128 inotify instances about 22 systemd containers run, and the next one's PID 1 dies without a
 * clear message: the kernel charges the owner of the user namespace, host root, whatever the container's ids are. */
#include "agent/preflight.h"

#include <stdio.h>
#include <sys/sysinfo.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"

static const struct {
    const char *path;
    int64_t least;
} limits[] = {
    {"/proc/sys/fs/inotify/max_user_instances", 1048576},
    {"/proc/sys/fs/inotify/max_user_watches", 1048576},
    {"/proc/sys/kernel/keys/maxkeys", 2000},
    {"/proc/sys/kernel/keys/maxbytes", 2000000},
    {"/proc/sys/net/ipv4/neigh/default/gc_thresh3", 8192},
    {"/proc/sys/net/ipv6/neigh/default/gc_thresh3", 8192},
};

static void raise_limit(const char *path, int64_t least)
{
    autofree char *text = NULL, *wanted = str_fmt("%lld", (long long)least);
    struct err *e = fd_read_file(path, 64, &text, NULL);
    int64_t now = 0;

    if (!e) {
        text[strcspn(text, "\n\t ")] = '\0';
        if (!str_to_i64(text, &now) || now >= least)
            return;
        e = fd_write_kernel_file(path, wanted);
    }
    if (e && e->code == ERR_NOT_FOUND)
        err_free(e); /* a namespace of its own does not show this one */
    else if (e)
        log_err(NULL, LOG_LEVEL_WARNING, e,
                "a kernel limit is too low for many containers; set it in sysctl.d, ignoring");
    else
        log_notice(NULL, "raised %s from %lld to %lld", path, (long long)now, (long long)least);
}

void preflight_limits(void)
{
    for (size_t i = 0; i < ARRAY_LEN(limits); i++)
        raise_limit(limits[i].path, limits[i].least);
}

int64_t preflight_ramdisk(int64_t wanted)
{
    struct sysinfo info = {0};
    int64_t half;

    if (sysinfo(&info) < 0)
        return wanted;
    half = (int64_t)(info.totalram * info.mem_unit / 2);
    if (wanted <= half)
        return wanted;
    log_warning(NULL, "containers.ramdisk_size is more than half the memory, ramdisks get %lld bytes", (long long)half);
    return half;
}
