/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A look at what we have put into the kernel outside the table, by one dump of each kind, and its repair. Routes are
 * asked for by our protocol number, so a large routing table costs nothing; forwarding and rp_filter come as netconf
 * messages and not from a file for each link.
 */
#include <arpa/inet.h>
#include <linux/fib_rules.h>
#include <linux/if_addr.h>
#include <linux/neighbour.h>
#include <linux/netconf.h>
#include <linux/rtnetlink.h>
#include <stdarg.h>

#include "base/str.h"
#include "netfilter/nf.h"

/* What a link has, or the host. The order is that of `names`. */
enum have {
    HAVE_LINK = 1 << 0,
    HAVE_UP = 1 << 1,
    HAVE_ADDRESS4 = 1 << 2,
    HAVE_ADDRESS6 = 1 << 3,
    HAVE_ROUTE4 = 1 << 4,
    HAVE_ROUTE6 = 1 << 5,
    HAVE_NEIGHBOUR4 = 1 << 6,
    HAVE_NEIGHBOUR6 = 1 << 7,
    HAVE_SYSCTL4 = 1 << 8,
    HAVE_SYSCTL6 = 1 << 9,
    HAVE_RULE4 = 1 << 10,
    HAVE_RULE6 = 1 << 11,
    HAVE_PROXY_RULE4 = 1 << 12,
    HAVE_PROXY_RULE6 = 1 << 13,
    HAVE_PROXY_ROUTE4 = 1 << 14,
    HAVE_PROXY_ROUTE6 = 1 << 15,
    HAVE_LINK_ALL = HAVE_RULE4 - 1,
    HAVE_PROXY_ALL = HAVE_PROXY_RULE4 | HAVE_PROXY_RULE6 | HAVE_PROXY_ROUTE4 | HAVE_PROXY_ROUTE6,
    HAVE_IPV6 = HAVE_ADDRESS6 | HAVE_ROUTE6 | HAVE_NEIGHBOUR6 | HAVE_SYSCTL6 | HAVE_RULE6 | HAVE_PROXY_RULE6 |
                HAVE_PROXY_ROUTE6,
    HAVE_HOST_ALL = HAVE_UP | HAVE_ROUTE4 | HAVE_ROUTE6 | HAVE_SYSCTL4 | HAVE_SYSCTL6 | HAVE_RULE4 | HAVE_RULE6
};

static const char *const names[] = {
    NULL,
    "state up",
    "IPv4 gateway address",
    "IPv6 gateway address",
    "IPv4 route",
    "IPv6 route",
    "IPv4 neighbour entry",
    "IPv6 neighbour entry",
    "IPv4 forwarding or rp_filter",
    "IPv6 forwarding",
    NULL,
    NULL,
    "IPv4 ip rule as a proxy",
    "IPv6 ip rule as a proxy",
    "IPv4 route for clients as a proxy",
    "IPv6 route for clients as a proxy",
};
static const char *const host_names[] = {
    NULL,
    "state up of the loopback interface",
    NULL,
    NULL,
    "IPv4 local route of table 100",
    "IPv6 local route of table 100",
    NULL,
    NULL,
    "net.ipv4.ip_forward",
    "net.ipv6.conf.all.forwarding",
    "IPv4 ip rule 100",
    "IPv6 ip rule 100",
};

struct end {
    unsigned index;
    int slot;
};

struct look {
    struct nf *nf;
    unsigned host, loopback;
    unsigned unwanted; /* enum have: what there cannot be on this host */
    uint16_t *have;    /* by slot */
    struct end *ends;  /* of our links, by index */
    size_t end_count;
    unsigned *indexes; /* by slot */
};

void nf_drift_add(struct nf_drift *d, int slot, const char *format, ...)
{
    struct nf_found f = {.slot = slot};
    va_list args;

    va_start(args, format);
    vsnprintf(f.what, sizeof(f.what), format, args);
    va_end(args);
    for (size_t i = 0; i < d->count; i++)
        if (str_eq(d->found[i].what, f.what))
            return;
    d->total++;
    if (d->count < NF_FOUND_MAX)
        d->found[d->count++] = f;
}

static unsigned v4_or_6(int family, unsigned bit4)
{
    return family == AF_INET ? bit4 : bit4 << 1;
}

static int by_index(const void *a, const void *b)
{
    const struct end *x = a, *y = b;

    return (x->index > y->index) - (x->index < y->index);
}

/* 0: not one of ours. */
static int slot_of_index(const struct look *l, unsigned index)
{
    const struct end key = {.index = index};
    const struct end *found = l->ends ? bsearch(&key, l->ends, l->end_count, sizeof(key), by_index) : NULL;

    return found ? found->slot : 0;
}

/* The bytes of an attribute, NULL when it is not there or of another length. */
static const void *bytes_of(const struct nlmsghdr *h, size_t header, uint16_t type, size_t len)
{
    const struct nlattr *a = nl_attr(h, header, type);

    return a && mnl_attr_get_payload_len(a) == len ? mnl_attr_get_payload(a) : NULL;
}

static size_t address_len(int family)
{
    return family == AF_INET ? 4 : 16;
}

static int see_link(const struct nlmsghdr *h, void *data)
{
    const struct ifinfomsg *m = mnl_nlmsg_get_payload(h);
    const struct nlattr *name = nl_attr(h, sizeof(*m), IFLA_IFNAME);
    struct look *l = data;
    struct slot_net n;
    int slot;

    if (!name || mnl_attr_validate(name, MNL_TYPE_NUL_STRING) < 0)
        return MNL_CB_OK;
    if ((unsigned)m->ifi_index == l->loopback)
        l->host |= m->ifi_flags & IFF_UP ? HAVE_UP : 0;
    slot = net_plan_slot_of(&l->nf->plan, mnl_attr_get_str(name));
    if (!slot || slot > net_plan_max_slot(&l->nf->plan))
        return MNL_CB_OK;
    slot_net_init(&l->nf->plan, slot, &n);
    if (!str_eq(n.ifname, mnl_attr_get_str(name)))
        return MNL_CB_OK; /* a peer that waits to be moved */
    l->have[slot] |= (uint16_t)(HAVE_LINK | (m->ifi_flags & IFF_UP ? HAVE_UP : 0));
    l->indexes[slot] = (unsigned)m->ifi_index;
    l->ends = mem_grow(l->ends, l->end_count + 1, sizeof(*l->ends));
    l->ends[l->end_count++] = (struct end){.index = (unsigned)m->ifi_index, .slot = slot};
    return MNL_CB_OK;
}

static int see_address(const struct nlmsghdr *h, void *data)
{
    const struct ifaddrmsg *m = mnl_nlmsg_get_payload(h);
    struct look *l = data;
    int slot = slot_of_index(l, m->ifa_index);
    uint8_t gateway[16];
    const void *address;

    if (!slot || (m->ifa_family != AF_INET && m->ifa_family != AF_INET6))
        return MNL_CB_OK;
    inet_pton(m->ifa_family, m->ifa_family == AF_INET ? NET_GATEWAY4 : NET_GATEWAY6, gateway);
    address = bytes_of(h, sizeof(*m), IFA_ADDRESS, address_len(m->ifa_family));
    if (address && memcmp(address, gateway, address_len(m->ifa_family)) == 0)
        l->have[slot] |= (uint16_t)v4_or_6(m->ifa_family, HAVE_ADDRESS4);
    return MNL_CB_OK;
}

static int see_route(const struct nlmsghdr *h, void *data)
{
    const struct rtmsg *m = mnl_nlmsg_get_payload(h);
    uint32_t table = nl_attr_u32(h, sizeof(*m), RTA_TABLE), out = nl_attr_u32(h, sizeof(*m), RTA_OIF);
    struct look *l = data;
    const void *to;
    int slot;

    if (m->rtm_protocol != NF_ROUTE_PROTOCOL || (m->rtm_family != AF_INET && m->rtm_family != AF_INET6))
        return MNL_CB_OK;
    if (table == NF_ROUTE_TABLE && m->rtm_type == RTN_LOCAL && m->rtm_dst_len == 0 && out == l->loopback)
        l->host |= v4_or_6(m->rtm_family, HAVE_ROUTE4);
    if (table > NF_PROXY_TABLE(0) && table <= NF_PROXY_TABLE(NET_SLOT_MAX) && m->rtm_dst_len == 0 && out &&
        out == l->indexes[table - NF_PROXY_TABLE(0)])
        l->have[table - NF_PROXY_TABLE(0)] |= (uint16_t)v4_or_6(m->rtm_family, HAVE_PROXY_ROUTE4);
    to = bytes_of(h, sizeof(*m), RTA_DST, address_len(m->rtm_family));
    slot = to ? net_plan_slot_of_address(&l->nf->plan, m->rtm_family, to) : 0;
    if (table == RT_TABLE_MAIN && m->rtm_type == RTN_UNICAST && slot && out && out == l->indexes[slot] &&
        m->rtm_dst_len == address_len(m->rtm_family) * 8)
        l->have[slot] |= (uint16_t)v4_or_6(m->rtm_family, HAVE_ROUTE4);
    return MNL_CB_OK;
}

static int see_neighbour(const struct nlmsghdr *h, void *data)
{
    const struct ndmsg *m = mnl_nlmsg_get_payload(h);
    struct look *l = data;
    int slot = slot_of_index(l, (unsigned)m->ndm_ifindex);
    const void *address, *hw = bytes_of(h, sizeof(*m), NDA_LLADDR, 6);
    struct slot_net n;

    if (!slot || !hw || !(m->ndm_state & NUD_PERMANENT) || (m->ndm_family != AF_INET && m->ndm_family != AF_INET6))
        return MNL_CB_OK;
    slot_net_init(&l->nf->plan, slot, &n);
    address = bytes_of(h, sizeof(*m), NDA_DST, address_len(m->ndm_family));
    if (address && memcmp(hw, n.hw_container, 6) == 0 &&
        net_plan_slot_of_address(&l->nf->plan, m->ndm_family, address) == slot)
        l->have[slot] |= (uint16_t)v4_or_6(m->ndm_family, HAVE_NEIGHBOUR4);
    return MNL_CB_OK;
}

static int see_sysctl(const struct nlmsghdr *h, void *data)
{
    const struct netconfmsg *m = mnl_nlmsg_get_payload(h);
    int index = (int)nl_attr_u32(h, sizeof(*m), NETCONFA_IFINDEX);
    bool right = nl_attr_u32(h, sizeof(*m), NETCONFA_FORWARDING) == 1;
    struct look *l = data;
    int slot = index > 0 ? slot_of_index(l, (unsigned)index) : 0;

    if (m->ncm_family != AF_INET && m->ncm_family != AF_INET6)
        return MNL_CB_OK;
    if (right && index == NETCONFA_IFINDEX_ALL)
        l->host |= v4_or_6(m->ncm_family, HAVE_SYSCTL4);
    if (slot && m->ncm_family == AF_INET)
        right = right && nl_attr_u32(h, sizeof(*m), NETCONFA_RP_FILTER) == sysctl_rp_filter(l->nf->known[slot].proxy);
    if (slot && right)
        l->have[slot] |= (uint16_t)v4_or_6(m->ncm_family, HAVE_SYSCTL4);
    return MNL_CB_OK;
}

static int see_rule(const struct nlmsghdr *h, void *data)
{
    const struct fib_rule_hdr *m = mnl_nlmsg_get_payload(h);
    uint32_t priority = nl_attr_u32(h, sizeof(*m), FRA_PRIORITY), mark = nl_attr_u32(h, sizeof(*m), FRA_FWMARK),
             mask = nl_attr_u32(h, sizeof(*m), FRA_FWMASK), table = nl_attr_u32(h, sizeof(*m), FRA_TABLE),
             slot = mark >> NF_PROXY_MARK_SHIFT;
    struct look *l = data;

    if ((m->family != AF_INET && m->family != AF_INET6) || m->action != FR_ACT_TO_TBL)
        return MNL_CB_OK;
    if (priority == NF_RULE_PRIORITY && mark == NF_MARK_REPLY && mask == NF_MARK_MASK && table == NF_ROUTE_TABLE)
        l->host |= v4_or_6(m->family, HAVE_RULE4);
    if (priority == NF_PROXY_RULE_PRIORITY && slot <= NET_SLOT_MAX && mark == NF_PROXY_MARK(slot) &&
        mask == NF_PROXY_MARK_MASK && table == NF_PROXY_TABLE(slot))
        l->have[slot] |= (uint16_t)v4_or_6(m->family, HAVE_PROXY_RULE4);
    return MNL_CB_OK;
}

/* One dump. The header that a kind of message has begins with the family, and is zero but for that. */
static struct err *dump(struct look *l, uint16_t type, int family, size_t header, mnl_cb_t see)
{
    char buf[NL_MESSAGE_MAX];
    struct nlmsghdr *h = nl_message(&l->nf->route, buf, type, NLM_F_DUMP);
    uint8_t *m = mnl_nlmsg_put_extra_header(h, header);
    int rc;

    m[0] = (uint8_t)family;
    if (type == RTM_GETLINK)
        mnl_attr_put_u32(h, IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
    if (type == RTM_GETROUTE)
        ((struct rtmsg *)(void *)m)->rtm_protocol = NF_ROUTE_PROTOCOL;
    rc = nl_dump(&l->nf->route, h, see, l);
    return rc ? err_errno(rc, "cannot list what the network has") : NULL;
}

static struct err *look(struct look *l)
{
    static const struct {
        uint16_t type;
        uint16_t header;
        mnl_cb_t see;
    } kinds[] = {
        {RTM_GETADDR, sizeof(struct ifaddrmsg), see_address}, {RTM_GETROUTE, sizeof(struct rtmsg), see_route},
        {RTM_GETNEIGH, sizeof(struct ndmsg), see_neighbour},  {RTM_GETNETCONF, sizeof(struct netconfmsg), see_sysctl},
        {RTM_GETRULE, sizeof(struct fib_rule_hdr), see_rule},
    };
    bool ipv6 = sysctl_ipv6_known();
    struct err *e;

    l->loopback = if_nametoindex("lo");
    e = dump(l, RTM_GETLINK, AF_UNSPEC, sizeof(struct ifinfomsg), see_link);
    if (l->ends)
        qsort(l->ends, l->end_count, sizeof(*l->ends), by_index);
    for (size_t i = 0; !e && i < ARRAY_LEN(kinds); i++) {
        e = dump(l, kinds[i].type, AF_INET, kinds[i].header, kinds[i].see);
        if (!e && ipv6)
            e = dump(l, kinds[i].type, AF_INET6, kinds[i].header, kinds[i].see);
    }
    return e;
}

static struct err *repair_link(struct look *l, int slot, struct nf_drift *d)
{
    unsigned wanted = HAVE_LINK_ALL | (l->nf->known[slot].proxy ? HAVE_PROXY_ALL : 0);
    unsigned missing = wanted & ~l->unwanted & ~(unsigned)l->have[slot];
    struct slot_net n;

    if (!missing)
        return NULL;
    slot_net_init(&l->nf->plan, slot, &n);
    if (missing & HAVE_LINK) {
        d->lost[slot / 8] |= (uint8_t)(1 << (slot % 8));
        return NULL;
    }
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (missing & 1u << i)
            nf_drift_add(d, slot, "%s of %s", names[i], n.ifname);
    return links_restore(l->nf, &n);
}

static struct err *repair_host(struct look *l, struct nf_drift *d)
{
    unsigned missing = HAVE_HOST_ALL & ~l->unwanted & ~l->host;
    struct err *e;

    for (size_t i = 0; i < ARRAY_LEN(host_names); i++)
        if (missing & 1u << i)
            nf_drift_add(d, 0, "%s", host_names[i]);
    if (!missing)
        return NULL;
    e = routes_install(l->nf);
    return e ? e : sysctl_host(l->nf);
}

struct err *drift_repair(struct nf *nf, const struct nf_container *containers, size_t count, struct nf_drift *d)
{
    struct look l = {.nf = nf,
                     .unwanted = sysctl_ipv6(nf) ? 0 : HAVE_IPV6,
                     .have = mem_new_array(uint16_t, NET_SLOT_MAX + 1),
                     .indexes = mem_new_array(unsigned, NET_SLOT_MAX + 1)};
    struct err *e = look(&l);

    if (!e)
        e = repair_host(&l, d);
    for (size_t i = 0; !e && i < count; i++)
        e = repair_link(&l, containers[i].slot, d);
    free(l.have);
    free(l.indexes);
    free(l.ends);
    return e;
}
