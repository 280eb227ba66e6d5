/* SPDX-License-Identifier: Apache-2.0 */
/* Kernel switches of the network namespace we are in; each is written only when it differs. */
#include <dirent.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/str.h"
#include "netfilter/nf.h"

/* Of the kernel: any way back will do, or only the link that a packet came by. */
#define LOOSE "2"
#define STRICT "1"

static const char *rp_filter(bool proxy)
{
    return proxy ? LOOSE : STRICT;
}

uint32_t sysctl_rp_filter(bool proxy)
{
    return (uint32_t)(rp_filter(proxy)[0] - '0');
}

static struct err *put(const char *path, const char *value)
{
    autofree char *now = NULL;
    autoerr ignored = fd_read_file(path, 64, &now, NULL);

    if (!ignored && strncmp(now, value, strlen(value)) == 0 && now[strlen(value)] == '\n')
        return NULL;
    return fd_write_kernel_file(path, value);
}

static struct err *put_of(int version, const char *ifname, const char *key, const char *value)
{
    autofree char *path = str_fmt("/proc/sys/net/ipv%d/conf/%s/%s", version, ifname, key);

    return put(path, value);
}

/* A forwarding host stops to accept router advertisements; where it did so far it must go on, or it loses its own
 * default route. */
static void keep_router_advertisements(const struct net_plan *plan)
{
    DIR *d = opendir("/proc/sys/net/ipv6/conf");
    struct dirent *entry;

    while (d && (entry = readdir(d))) {
        autofree char *path = str_fmt("/proc/sys/net/ipv6/conf/%s/accept_ra", entry->d_name);
        autofree char *now = NULL;

        if (entry->d_name[0] == '.' || net_plan_slot_of(plan, entry->d_name))
            continue;
        err_ignore(fd_read_file(path, 64, &now, NULL));
        if (now && strcmp(now, "1\n") == 0)
            err_ignore(fd_write_kernel_file(path, "2"));
    }
    if (d)
        closedir(d);
}

bool sysctl_ipv6_known(void)
{
    return access("/proc/sys/net/ipv6", F_OK) == 0;
}

const char *nf_ipv6_off(void)
{
    static const struct {
        const char *path, *why;
    } switches[] = {
        {"/proc/sys/net/ipv6/conf/all/disable_ipv6", "net.ipv6.conf.all.disable_ipv6 is on"},
        {"/proc/sys/net/ipv6/conf/default/disable_ipv6", "net.ipv6.conf.default.disable_ipv6 is on"},
        {"/proc/sys/net/ipv6/conf/lo/disable_ipv6", "net.ipv6.conf.lo.disable_ipv6 is on"},
    };

    if (!sysctl_ipv6_known())
        return "the kernel runs without it (ipv6.disable=1)";
    for (size_t i = 0; i < ARRAY_LEN(switches); i++) {
        autofree char *now = NULL;

        err_ignore(fd_read_file(switches[i].path, 64, &now, NULL));
        if (now && !str_eq(now, "0\n"))
            return switches[i].why;
    }
    return NULL;
}

bool sysctl_ipv6(const struct nf *nf)
{
    return !nf->ipv4_only && !nf_ipv6_off();
}

struct err *sysctl_host(const struct nf *nf)
{
    autofree char *now = NULL;
    struct err *e = put("/proc/sys/net/ipv4/ip_forward", "1");

    if (e || !sysctl_ipv6(nf))
        return e;
    err_ignore(fd_read_file("/proc/sys/net/ipv6/conf/all/forwarding", 64, &now, NULL));
    if (!str_eq(now, "1\n"))
        keep_router_advertisements(&nf->plan);
    return put("/proc/sys/net/ipv6/conf/all/forwarding", "1");
}

struct err *sysctl_link(const struct nf *nf, const char *ifname, bool proxy)
{
    const struct {
        int version;
        const char *key, *value;
    } rows[] = {
        {4, "forwarding", "1"},     {4, "rp_filter", rp_filter(proxy)}, {4, "accept_redirects", "0"},
        {4, "send_redirects", "0"}, {4, "secure_redirects", "0"},       {6, "forwarding", "1"},
        {4, "arp_filter", "1"}, /* who asks from an address of another link gets no answer, and no neighbour entry */
        {6, "accept_ra", "0"},      {6, "accept_redirects", "0"},       {6, "autoconf", "0"},
        {6, "addr_gen_mode", "1"},  {6, "disable_ipv6", "0"}, /* of a link that was made while the default was another
                                                               */
    };
    bool ipv6 = sysctl_ipv6(nf);
    struct err *e = NULL;

    for (size_t i = 0; !e && i < ARRAY_LEN(rows); i++)
        if (rows[i].version == 4 || ipv6)
            e = put_of(rows[i].version, ifname, rows[i].key, rows[i].value);
    return e;
}
