/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two kinds of routes: to each container over its own link, and one local route for everything, which only packets
 * with the reply mark find: they are delivered to this host though the address is a client's.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/fib_rules.h>
#include <linux/if_addr.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>

#include "netfilter/nf.h"

static struct err *address(struct nf *nf, int family, unsigned index, const void *ip, uint8_t length)
{
    char buf[NL_MESSAGE_MAX];
    struct nlmsghdr *h = nl_message(&nf->route, buf, RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE);
    struct ifaddrmsg *m = mnl_nlmsg_put_extra_header(h, sizeof(*m));
    size_t len = family == AF_INET ? 4 : 16;

    m->ifa_family = (uint8_t)family;
    m->ifa_prefixlen = length;
    m->ifa_scope = RT_SCOPE_LINK;
    m->ifa_index = index;
    mnl_attr_put(h, IFA_LOCAL, len, ip);
    mnl_attr_put(h, IFA_ADDRESS, len, ip);
    mnl_attr_put_u32(h, IFA_FLAGS, IFA_F_NODAD | IFA_F_NOPREFIXROUTE * (family == AF_INET));
    return nl_do(&nf->route, h, EEXIST, "cannot set the gateway address of a link");
}

static struct err *route(struct nf *nf, int family, unsigned index, const void *ip)
{
    char buf[NL_MESSAGE_MAX];
    struct nlmsghdr *h = nl_message(&nf->route, buf, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE);
    struct rtmsg *m = mnl_nlmsg_put_extra_header(h, sizeof(*m));
    size_t len = family == AF_INET ? 4 : 16;

    m->rtm_family = (uint8_t)family;
    m->rtm_dst_len = (uint8_t)(len * 8);
    m->rtm_table = RT_TABLE_MAIN;
    m->rtm_protocol = NF_ROUTE_PROTOCOL;
    m->rtm_scope = family == AF_INET ? RT_SCOPE_LINK : RT_SCOPE_UNIVERSE;
    m->rtm_type = RTN_UNICAST;
    mnl_attr_put(h, RTA_DST, len, ip);
    mnl_attr_put_u32(h, RTA_OIF, index);
    return nl_do(&nf->route, h, 0, "cannot set the route to a container");
}

/* Written down, so that a container can neither be late to answer nor answer for another address, and so that its
 * entries take no room in the part of the table that the kernel keeps small. */
static struct err *neighbour(struct nf *nf, int family, unsigned index, const void *ip, const uint8_t hw[6])
{
    char buf[NL_MESSAGE_MAX];
    struct nlmsghdr *h = nl_message(&nf->route, buf, RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE);
    struct ndmsg *m = mnl_nlmsg_put_extra_header(h, sizeof(*m));

    m->ndm_family = (uint8_t)family;
    m->ndm_ifindex = (int)index;
    m->ndm_state = NUD_PERMANENT;
    mnl_attr_put(h, NDA_DST, family == AF_INET ? 4 : 16, ip);
    mnl_attr_put(h, NDA_LLADDR, 6, hw);
    return nl_do(&nf->route, h, 0, "cannot set the neighbour entry of a container");
}

static struct err *of_link4(struct nf *nf, const struct slot_net *n, unsigned index)
{
    struct in_addr gateway;
    struct err *e;

    inet_pton(AF_INET, NET_GATEWAY4, &gateway);
    e = address(nf, AF_INET, index, &gateway, 32);
    if (!e)
        e = route(nf, AF_INET, index, &n->addr4);
    return e ? e : neighbour(nf, AF_INET, index, &n->addr4, n->hw_container);
}

static struct err *of_link6(struct nf *nf, const struct slot_net *n, unsigned index)
{
    struct in6_addr gateway;
    struct err *e;

    inet_pton(AF_INET6, NET_GATEWAY6, &gateway);
    e = address(nf, AF_INET6, index, &gateway, 64);
    if (!e)
        e = route(nf, AF_INET6, index, &n->addr6);
    if (!e)
        e = neighbour(nf, AF_INET6, index, &n->addr6, n->hw_container);
    return e ? e : neighbour(nf, AF_INET6, index, &n->link_local, n->hw_container);
}

struct err *routes_of_link(struct nf *nf, const struct slot_net *n, unsigned index)
{
    struct err *e = of_link4(nf, n, index);

    return e || !sysctl_ipv6(nf) ? e : of_link6(nf, n, index);
}

static struct err *reply_rule(struct nf *nf, int family, bool add)
{
    char buf[NL_MESSAGE_MAX];
    struct nlmsghdr *h =
        nl_message(&nf->route, buf, add ? RTM_NEWRULE : RTM_DELRULE, add ? NLM_F_CREATE | NLM_F_EXCL : 0);
    struct fib_rule_hdr *m = mnl_nlmsg_put_extra_header(h, sizeof(*m));

    m->family = (uint8_t)family;
    m->action = FR_ACT_TO_TBL;
    m->table = NF_ROUTE_TABLE;
    mnl_attr_put_u32(h, FRA_PRIORITY, NF_RULE_PRIORITY);
    mnl_attr_put_u32(h, FRA_FWMARK, NF_MARK_REPLY);
    mnl_attr_put_u32(h, FRA_FWMASK, NF_MARK_MASK);
    mnl_attr_put_u32(h, FRA_TABLE, NF_ROUTE_TABLE);
    mnl_attr_put_u8(h, FRA_PROTOCOL, NF_ROUTE_PROTOCOL);
    return nl_do(&nf->route, h, add ? EEXIST : ENOENT, "cannot change the ip rule for replies to a proxy");
}

static struct err *reply_route(struct nf *nf, int family, bool add)
{
    char buf[NL_MESSAGE_MAX];
    struct nlmsghdr *h =
        nl_message(&nf->route, buf, add ? RTM_NEWROUTE : RTM_DELROUTE, add ? NLM_F_CREATE | NLM_F_REPLACE : 0);
    struct rtmsg *m = mnl_nlmsg_put_extra_header(h, sizeof(*m));

    m->rtm_family = (uint8_t)family;
    m->rtm_table = NF_ROUTE_TABLE;
    m->rtm_protocol = NF_ROUTE_PROTOCOL;
    m->rtm_scope = RT_SCOPE_HOST;
    m->rtm_type = RTN_LOCAL;
    mnl_attr_put_u32(h, RTA_OIF, if_nametoindex("lo"));
    return nl_do(&nf->route, h, add ? EEXIST : ESRCH, "cannot change the local route for replies to a proxy");
}

/* Local routes need the loopback interface; a fresh network namespace has it down. */
static struct err *loopback_up(struct nf *nf)
{
    char buf[NL_MESSAGE_MAX];
    struct nlmsghdr *h = nl_message(&nf->route, buf, RTM_NEWLINK, 0);
    struct ifinfomsg *m = mnl_nlmsg_put_extra_header(h, sizeof(*m));

    m->ifi_index = (int)if_nametoindex("lo");
    m->ifi_flags = m->ifi_change = IFF_UP;
    return nl_do(&nf->route, h, 0, "cannot set the loopback interface up");
}

static struct err *each_family(struct nf *nf, bool add)
{
    bool ipv6 = add ? sysctl_ipv6(nf) : sysctl_ipv6_known();
    struct err *e = reply_rule(nf, AF_INET, add);

    if (!e)
        e = reply_route(nf, AF_INET, add);
    if (!e && ipv6)
        e = reply_rule(nf, AF_INET6, add);
    return e || !ipv6 ? e : reply_route(nf, AF_INET6, add);
}

struct err *routes_install(struct nf *nf)
{
    struct err *e = loopback_up(nf);

    return e ? e : each_family(nf, true);
}

struct err *routes_remove(struct nf *nf)
{
    return each_family(nf, false);
}
