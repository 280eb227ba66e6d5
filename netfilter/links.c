/* SPDX-License-Identifier: Apache-2.0 */
/* veth pairs, one a container: the host end stays, the peer is moved into the container by its worker. */
#include <errno.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>

#include "base/str.h"
#include "netfilter/nf.h"

static struct ifinfomsg *put_ifinfo(struct nlmsghdr *h)
{
    struct ifinfomsg *info = mnl_nlmsg_put_extra_header(h, sizeof(*info));

    info->ifi_family = AF_UNSPEC;
    return info;
}

/* One queue each way: the default is one a processor, which costs memory in every container. */
static void put_end(struct nlmsghdr *h, const char *name, const uint8_t hw[6])
{
    mnl_attr_put_strz(h, IFLA_IFNAME, name);
    mnl_attr_put(h, IFLA_ADDRESS, 6, hw);
    mnl_attr_put_u32(h, IFLA_NUM_TX_QUEUES, 1);
    mnl_attr_put_u32(h, IFLA_NUM_RX_QUEUES, 1);
}

static struct err *create_pair(struct nf *nf, const struct slot_net *n)
{
    char buf[NL_MESSAGE_MAX];
    struct nlmsghdr *h = nl_message(&nf->route, buf, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL);
    struct nlattr *info, *data, *peer;

    put_ifinfo(h);
    put_end(h, n->ifname, n->hw_host);
    info = mnl_attr_nest_start(h, IFLA_LINKINFO);
    mnl_attr_put_str(h, IFLA_INFO_KIND, "veth");
    data = mnl_attr_nest_start(h, IFLA_INFO_DATA);
    peer = mnl_attr_nest_start(h, VETH_INFO_PEER);
    put_ifinfo(h);
    put_end(h, n->peer, n->hw_container);
    mnl_attr_nest_end(h, peer);
    mnl_attr_nest_end(h, data);
    mnl_attr_nest_end(h, info);
    return nl_do(&nf->route, h, 0, "cannot create a veth pair");
}

static struct err *set_up(struct nf *nf, const char *ifname)
{
    char buf[NL_MESSAGE_MAX];
    struct nlmsghdr *h = nl_message(&nf->route, buf, RTM_NEWLINK, 0);
    struct ifinfomsg *info = put_ifinfo(h);

    info->ifi_flags = info->ifi_change = IFF_UP;
    mnl_attr_put_strz(h, IFLA_IFNAME, ifname);
    return nl_do(&nf->route, h, 0, "cannot set a veth up");
}

struct err *links_delete(struct nf *nf, const char *ifname)
{
    char buf[NL_MESSAGE_MAX];
    struct nlmsghdr *h = nl_message(&nf->route, buf, RTM_DELLINK, 0);

    put_ifinfo(h);
    mnl_attr_put_strz(h, IFLA_IFNAME, ifname);
    return nl_do(&nf->route, h, ENODEV, "cannot delete a veth");
}

struct err *links_restore(struct nf *nf, const struct slot_net *n)
{
    bool proxy = nf->known[n->slot].proxy;
    struct err *e = sysctl_link(nf, n->ifname, proxy);

    if (!e)
        e = set_up(nf, n->ifname);
    if (!e)
        e = routes_of_link(nf, n, if_nametoindex(n->ifname));
    if (!e && proxy)
        e = proxy_begin(nf, n);
    return e;
}

struct err *links_create(struct nf *nf, const struct slot_net *n)
{
    struct err *e;

    e = links_delete(nf, n->ifname);
    if (!e)
        e = links_delete(nf, n->peer); /* half of a pair whose other half was renamed */
    if (!e)
        e = create_pair(nf, n);
    if (e)
        return e;
    e = links_restore(nf, n);
    if (e)
        err_ignore(links_delete(nf, n->ifname));
    return e;
}

struct found {
    char (*names)[IFNAMSIZ];
    size_t count;
    const struct net_plan *plan;
    const uint8_t *keep;
};

static int collect(const struct nlmsghdr *h, void *data)
{
    const struct nlattr *name = nl_attr(h, sizeof(struct ifinfomsg), IFLA_IFNAME);
    const struct nlattr *kind = nl_attr_inside(nl_attr(h, sizeof(struct ifinfomsg), IFLA_LINKINFO), IFLA_INFO_KIND);
    struct found *f = data;
    int slot;

    if (!name || !kind || !str_eq(mnl_attr_get_str(kind), "veth"))
        return MNL_CB_OK;
    slot = net_plan_slot_of(f->plan, mnl_attr_get_str(name));
    if (slot && !(f->keep && f->keep[slot / 8] & (1 << (slot % 8)))) {
        f->names = mem_grow(f->names, f->count + 1, sizeof(*f->names));
        snprintf(f->names[f->count++], IFNAMSIZ, "%s", mnl_attr_get_str(name));
    }
    return MNL_CB_OK;
}

struct err *links_sweep(struct nf *nf, const uint8_t *keep)
{
    char buf[NL_MESSAGE_MAX];
    struct nlmsghdr *h = nl_message(&nf->route, buf, RTM_GETLINK, NLM_F_DUMP);
    struct found f = {.plan = &nf->plan, .keep = keep};
    struct err *e = NULL;
    int rc;

    put_ifinfo(h);
    rc = nl_dump(&nf->route, h, collect, &f);
    if (rc)
        e = err_errno(rc, "cannot list the network interfaces");
    for (size_t i = 0; !e && i < f.count; i++)
        e = links_delete(nf, f.names[i]);
    free(f.names);
    return e;
}

/* The host end receives what the container sends. */
static int read_counters(const struct nlmsghdr *h, void *data)
{
    const struct nlattr *stats = nl_attr(h, sizeof(struct ifinfomsg), IFLA_STATS64);
    struct rtnl_link_stats64 s = {0};
    struct nf_counters *ret = data;

    ret->up = ((const struct ifinfomsg *)mnl_nlmsg_get_payload(h))->ifi_flags & IFF_RUNNING;
    if (stats)
        memcpy(&s, mnl_attr_get_payload(stats), MIN(sizeof(s), mnl_attr_get_payload_len(stats)));
    ret->received_bytes = s.tx_bytes;
    ret->sent_bytes = s.rx_bytes;
    ret->received_packets = s.tx_packets;
    ret->sent_packets = s.rx_packets;
    ret->received_errors = s.tx_errors;
    ret->sent_errors = s.rx_errors;
    ret->received_dropped = s.tx_dropped;
    ret->sent_dropped = s.rx_dropped;
    return MNL_CB_OK;
}

struct err *links_counters(struct nf *nf, const char *ifname, struct nf_counters *ret)
{
    char buf[NL_MESSAGE_MAX];
    struct nlmsghdr *h = nl_message(&nf->route, buf, RTM_GETLINK, NLM_F_ACK);
    struct nf_counters counters = {0};
    int rc;

    put_ifinfo(h);
    mnl_attr_put_strz(h, IFLA_IFNAME, ifname);
    rc = nl_dump(&nf->route, h, read_counters, &counters);
    if (rc == ENODEV)
        return err_new(ERR_NOT_FOUND, "there is no interface '%s'", ifname);
    if (rc)
        return err_errno(rc, "cannot read the counters of '%s'", ifname);
    *ret = counters;
    return NULL;
}
