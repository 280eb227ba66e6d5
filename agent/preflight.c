/* SPDX-License-Identifier: Apache-2.0 */
/* With the default of 128 inotify instances about 22 systemd containers run, and the next one's PID 1 dies without a
 * clear message: the kernel charges the owner of the user namespace, host root, whatever the container's ids are. */
#include "agent/preflight.h"

#include <stdio.h>
#include <sys/stat.h>
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
    /* The neighbour tables are the whole host's, its containers' own ends included. Above gc_thresh2 entries go that
     * are still good, at gc_thresh3 nobody finds a neighbour any more. As many connections as are a container's share
     * may go to as many addresses of the host's own network, and each of them takes an entry for three seconds. */
    {"/proc/sys/net/ipv4/neigh/default/gc_thresh3", 262144},
    {"/proc/sys/net/ipv4/neigh/default/gc_thresh2", 131072},
    {"/proc/sys/net/ipv4/neigh/default/gc_thresh1", 8192},
    {"/proc/sys/net/ipv6/neigh/default/gc_thresh3", 262144},
    {"/proc/sys/net/ipv6/neigh/default/gc_thresh2", 131072},
    {"/proc/sys/net/ipv6/neigh/default/gc_thresh1", 8192},
};

/* An entry of the connection table takes 320 bytes; all of them at most a 32nd of the memory. */
#define CONNECTIONS_PATH "/proc/sys/net/netfilter/nf_conntrack_max"
enum { CONNECTION_BYTES = 320, CONNECTIONS_MEMORY_PART = 32, CONNECTIONS_LEAST = 65536, CONNECTIONS_MOST = 1048576 };

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

/* In a network namespace that is not the host's the daemon can read this limit and cannot write it. */
static bool may_change(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 && st.st_mode & S_IWUSR;
}

void preflight_connections(void)
{
    struct sysinfo info = {0};
    int64_t fit;

    if (sysinfo(&info) < 0 || !may_change(CONNECTIONS_PATH))
        return;
    fit = (int64_t)(info.totalram * info.mem_unit) / CONNECTIONS_MEMORY_PART / CONNECTION_BYTES;
    raise_limit(CONNECTIONS_PATH, MIN(MAX(fit, (int64_t)CONNECTIONS_LEAST), (int64_t)CONNECTIONS_MOST));
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
