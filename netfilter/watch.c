/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Notices what others do to our table, links, their queues, routes, ip rules and sysctls. The kernel writes the port of
 * the socket that caused a change into every message about it, so a socket filter lets only foreign ones through: our
 * own batches, however large, do not wake us. What the kernel does by itself, as when a link goes, has the port 0; of
 * that only what leaves something missing counts.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/fib_rules.h>
#include <linux/filter.h>
#include <linux/if_addr.h>
#include <linux/neighbour.h>
#include <linux/netconf.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/rtnetlink.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/str.h"
#include "netfilter/batch.h"
#include "netfilter/nf.h"

struct nf_watch {
    struct nl rules, route;
    int fd; /* epoll over both */
    char *table;
    struct net_plan plan;
};

/* nlmsg_pid is at offset 12; the filter loads it as big endian. */
static struct err *drop_own(struct nl *nl, uint32_t own)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct nlmsghdr, nlmsg_pid)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, htonl(own), 0, 1),
        BPF_STMT(BPF_RET | BPF_K, 0),
        BPF_STMT(BPF_RET | BPF_K, UINT32_MAX),
    };
    struct sock_fprog program = {.len = ARRAY_LEN(code), .filter = code};

    if (setsockopt(mnl_socket_get_fd(nl->socket), SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program)) < 0)
        return err_errno(errno, "cannot set a netlink filter");
    return NULL;
}

/* A socket that hears the groups, but not what `own` has caused. */
static struct err *listen_to(struct nf_watch *w, struct nl *nl, int bus, uint32_t own, const int *groups, size_t count)
{
    struct epoll_event event = {.events = EPOLLIN};
    struct err *e = nl_open(nl, bus);

    if (!e)
        e = drop_own(nl, own);
    for (size_t i = 0; !e && i < count; i++)
        if (mnl_socket_setsockopt(nl->socket, NETLINK_ADD_MEMBERSHIP, (void *)(uintptr_t)&groups[i], sizeof(int)) < 0)
            e = err_errno(errno, "cannot subscribe to changes of the network");
    if (!e && epoll_ctl(w->fd, EPOLL_CTL_ADD, mnl_socket_get_fd(nl->socket), &event) < 0)
        e = err_errno(errno, "cannot watch the network");
    return e;
}

struct err *nf_watch_open(const struct nf *nf, struct nf_watch **ret)
{
    static const int of_rules[] = {NFNLGRP_NFTABLES},
                     of_route[] = {RTNLGRP_LINK,         RTNLGRP_NEIGH,        RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR,
                                   RTNLGRP_IPV4_ROUTE,   RTNLGRP_IPV6_ROUTE,   RTNLGRP_IPV4_RULE,   RTNLGRP_IPV6_RULE,
                                   RTNLGRP_IPV4_NETCONF, RTNLGRP_IPV6_NETCONF, RTNLGRP_TC};
    struct nf_watch *w = mem_new(struct nf_watch);
    struct err *e = NULL;

    w->table = str_dup(nf->table);
    w->plan = nf->plan;
    w->fd = epoll_create1(EPOLL_CLOEXEC);
    if (w->fd < 0)
        e = err_errno(errno, "cannot watch the network");
    if (!e)
        e = listen_to(w, &w->rules, NETLINK_NETFILTER, nf->rules.port, of_rules, ARRAY_LEN(of_rules));
    if (!e)
        e = listen_to(w, &w->route, NETLINK_ROUTE, nf->route.port, of_route, ARRAY_LEN(of_route));
    if (e) {
        nf_watch_close(w);
        return e;
    }
    *ret = w;
    return NULL;
}

int nf_watch_fd(const struct nf_watch *w)
{
    return w->fd;
}

static const char *text_of(const struct nlmsghdr *h, size_t header, uint16_t type)
{
    const struct nlattr *a = nl_attr(h, header, type);

    return a && mnl_attr_validate(a, MNL_TYPE_NUL_STRING) >= 0 ? mnl_attr_get_str(a) : NULL;
}

/* "in_7": 7; 0 for a chain that is not a container's. */
static int slot_of_chain(const char *name)
{
    int slot = 0;

    if (sscanf(name, "in_%d", &slot) == 1 || sscanf(name, "out_%d", &slot) == 1)
        return slot;
    return 0;
}

/* What a message says of our table. kind: of enum nf_tables_msg_types. */
static void describe(const struct nlmsghdr *h, uint16_t kind, const char *table, struct nf_drift *d)
{
    static const struct {
        uint16_t kind, name; /* name: the attribute that has it */
        const char *object, *what;
    } rows[] = {
        {NFT_MSG_NEWTABLE, NFTA_TABLE_NAME, "table", "was made"},
        {NFT_MSG_DELTABLE, NFTA_TABLE_NAME, "table", "was deleted"},
        {NFT_MSG_NEWCHAIN, NFTA_CHAIN_NAME, "chain", "was made or changed"},
        {NFT_MSG_DELCHAIN, NFTA_CHAIN_NAME, "chain", "was deleted"},
        {NFT_MSG_NEWRULE, NFTA_RULE_CHAIN, "chain", "got a rule"},
        {NFT_MSG_DELRULE, NFTA_RULE_CHAIN, "chain", "lost a rule"},
        {NFT_MSG_NEWSET, NFTA_SET_NAME, "set", "was made or changed"},
        {NFT_MSG_DELSET, NFTA_SET_NAME, "set", "was deleted"},
        {NFT_MSG_NEWSETELEM, NFTA_SET_ELEM_LIST_SET, "set", "got an element"},
        {NFT_MSG_DELSETELEM, NFTA_SET_ELEM_LIST_SET, "set", "lost an element"},
    };
    size_t i = 0;
    const char *name;

    while (i < ARRAY_LEN(rows) && rows[i].kind != kind)
        i++;
    name = i < ARRAY_LEN(rows) ? text_of(h, sizeof(struct nfgenmsg), rows[i].name) : NULL;
    if (kind == NFT_MSG_DELTABLE && str_eq(name, table))
        *d = (struct nf_drift){0}; /* says it all */
    if (name)
        nf_drift_add(d, slot_of_chain(name), "%s %s %s", rows[i].object, name, rows[i].what);
    else
        nf_drift_add(d, 0, "the table was changed");
}

/* The table's name is attribute 1 in every message about tables, chains, rules, sets, elements and objects. */
static unsigned see_rules(const struct nf_watch *w, const struct nlmsghdr *h, struct nf_drift *d)
{
    const struct nfgenmsg *g = mnl_nlmsg_get_payload(h);
    uint16_t kind = h->nlmsg_type & 0xff;
    const char *table;

    if (h->nlmsg_len < NLMSG_LENGTH(sizeof(*g)) || h->nlmsg_type >> 8 != NFNL_SUBSYS_NFTABLES || kind == NFT_MSG_NEWGEN)
        return 0;
    table = text_of(h, sizeof(*g), NFTA_TABLE_NAME);
    if (g->nfgen_family == NFPROTO_INET && table && lists_own(w->table, table)) {
        describe(h, kind, w->table, d);
        return NF_SEEN_TABLE;
    }
    if (kind == NFT_MSG_NEWRULE || kind == NFT_MSG_DELRULE)
        return NF_SEEN_FOREIGN_RULES;
    return kind == NFT_MSG_NEWTABLE || kind == NFT_MSG_DELTABLE || kind == NFT_MSG_NEWCHAIN || kind == NFT_MSG_DELCHAIN
               ? NF_SEEN_FOREIGN
               : 0;
}

/* The slot of a link that is there; 0 when it is not ours, or gone: then the message about the link itself counts. */
static int slot_of_index(const struct nf_watch *w, uint32_t index)
{
    char name[IFNAMSIZ];

    return index && if_indextoname(index, name) ? net_plan_slot_of(&w->plan, name) : 0;
}

static bool link_lost(const struct nf_watch *w, const struct nlmsghdr *h)
{
    const struct ifinfomsg *m = mnl_nlmsg_get_payload(h);
    const char *name = text_of(h, sizeof(*m), IFLA_IFNAME);

    return name && (h->nlmsg_type == RTM_DELLINK || !(m->ifi_flags & IFF_UP)) &&
           (net_plan_slot_of(&w->plan, name) || str_eq(name, "lo"));
}

static bool route_lost(const struct nf_watch *w, const struct nlmsghdr *h)
{
    const struct rtmsg *m = mnl_nlmsg_get_payload(h);
    const struct nlattr *to = nl_attr(h, sizeof(*m), RTA_DST);
    char name[IFNAMSIZ];

    uint32_t table = nl_attr_u32(h, sizeof(*m), RTA_TABLE);

    if (table == NF_ROUTE_TABLE || (table > NF_PROXY_TABLE(0) && table <= NF_PROXY_TABLE(NET_SLOT_MAX)))
        return true;
    /* A new one may stand in the place of ours; one that goes with its link is no loss. */
    return to && mnl_attr_get_payload_len(to) == (m->rtm_family == AF_INET ? 4 : 16) &&
           net_plan_slot_of_address(&w->plan, m->rtm_family, mnl_attr_get_payload(to)) &&
           (h->nlmsg_type == RTM_NEWROUTE || if_indextoname(nl_attr_u32(h, sizeof(*m), RTA_OIF), name));
}

static bool sysctl_wrong(const struct nf_watch *w, const struct nlmsghdr *h)
{
    const struct netconfmsg *m = mnl_nlmsg_get_payload(h);
    int index = (int)nl_attr_u32(h, sizeof(*m), NETCONFA_IFINDEX);
    bool forwards =
             !nl_attr(h, sizeof(*m), NETCONFA_FORWARDING) || nl_attr_u32(h, sizeof(*m), NETCONFA_FORWARDING) == 1,
         filters = m->ncm_family != AF_INET || !nl_attr(h, sizeof(*m), NETCONFA_RP_FILTER) ||
                   nl_attr_u32(h, sizeof(*m), NETCONFA_RP_FILTER) == sysctl_rp_filter(false);

    if (index == NETCONFA_IFINDEX_ALL)
        return !forwards;
    return index > 0 && (!forwards || !filters) && slot_of_index(w, (uint32_t)index);
}

static bool see_route(const struct nf_watch *w, const struct nlmsghdr *h)
{
    const void *body = mnl_nlmsg_get_payload(h);

    if (h->nlmsg_len < NLMSG_LENGTH(sizeof(struct ndmsg)) && h->nlmsg_type != RTM_NEWNETCONF)
        return false; /* all but netconf have at least the eight bytes that are looked at before the attributes */
    switch (h->nlmsg_type) {
    case RTM_NEWLINK:
    case RTM_DELLINK:
        return link_lost(w, h);
    case RTM_DELADDR:
        return slot_of_index(w, ((const struct ifaddrmsg *)body)->ifa_index) != 0;
    case RTM_NEWROUTE:
    case RTM_DELROUTE:
        return route_lost(w, h);
    case RTM_NEWNEIGH: /* by somebody, in the place of ours; what the kernel learns by itself is none of them */
    case RTM_DELNEIGH:
        return (h->nlmsg_type == RTM_DELNEIGH || h->nlmsg_pid) &&
               slot_of_index(w, (uint32_t)((const struct ndmsg *)body)->ndm_ifindex) != 0;
    case RTM_DELRULE:
        return ((const struct fib_rule_hdr *)body)->table == NF_ROUTE_TABLE ||
               nl_attr_u32(h, sizeof(struct fib_rule_hdr), FRA_PRIORITY) == NF_PROXY_RULE_PRIORITY;
    case RTM_NEWNETCONF:
        return sysctl_wrong(w, h);
    case RTM_NEWQDISC:
    case RTM_DELQDISC:
        return h->nlmsg_len >= NLMSG_LENGTH(sizeof(struct tcmsg)) &&
               slot_of_index(w, (uint32_t)((const struct tcmsg *)body)->tcm_ifindex) != 0;
    default:
        return false;
    }
}

/* Everything that waits at a socket. */
static unsigned drain(struct nf_watch *w, struct nl *nl, struct nf_drift *d)
{
    bool of_rules = nl == &w->rules;
    unsigned seen = 0;
    char buf[32768];
    ssize_t n;

    while ((n = recv(mnl_socket_get_fd(nl->socket), buf, sizeof(buf), MSG_DONTWAIT)) != 0) {
        struct nlmsghdr *h = (struct nlmsghdr *)buf;
        int left = (int)n;

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == ENOBUFS) { /* others changed more than fits: some of it may have been ours */
            seen |= of_rules ? NF_SEEN_TABLE | NF_SEEN_FOREIGN : NF_SEEN_HOST;
            continue;
        }
        if (n < 0)
            break;
        for (; mnl_nlmsg_ok(h, left); h = mnl_nlmsg_next(h, &left))
            seen |= of_rules ? see_rules(w, h, d) : see_route(w, h) ? NF_SEEN_HOST : 0;
    }
    return seen;
}

unsigned nf_watch_changed(struct nf_watch *w, struct nf_drift *d)
{
    return drain(w, &w->rules, d) | drain(w, &w->route, d);
}

void nf_watch_close(struct nf_watch *w)
{
    if (!w)
        return;
    nl_close(&w->rules);
    nl_close(&w->route);
    if (w->fd >= 0)
        close(w->fd);
    free(w->table);
    free(w);
}
