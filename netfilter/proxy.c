/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Containers that are proxies: what they open to other containers may have a client's address for its source, and is
 * proxied traffic like that of a proxy on this host. Such a connection has a conntrack mark that names the container;
 * its answers, addressed to the client, get this mark as theirs, and an ip rule for each proxy brings them back.
 *
 *   antispoof_proxy   what a proxy sends with an address that is not its own
 *   mark              which connections are those, and their answers
 *   proxied           from a proxy to a container
 */
#include "netfilter/nf.h"

#include <errno.h>
#include <linux/fib_rules.h>
#include <linux/netfilter/nf_conntrack_common.h>
#include <linux/netfilter/nf_conntrack_tuple_common.h>
#include <linux/rtnetlink.h>

#include "netfilter/chain.h"
#include "netfilter/match.h"
#include "netfilter/set.h"

static const uint8_t families[] = {NFPROTO_IPV4, NFPROTO_IPV6};

static struct nftnl_rule *from_proxy(const struct build *b, const char *chain)
{
    struct nftnl_rule *r = rule_begin(b, chain);

    match_interface_set(r, NFT_META_IIFNAME, SET_PROXIES, false, false);
    return r;
}

void proxy_antispoof(const struct nf *nf, const struct build *b)
{
    static const uint8_t protocols[] = {IPPROTO_TCP, IPPROTO_UDP};
    const char *name = "antispoof_proxy";
    const uint32_t local = RTN_LOCAL;
    struct nftnl_rule *r;

    chain_plain(b, name);
    r = rule_begin(b, name);
    expr_fib_type(r, NFTA_FIB_F_SADDR, REG_MAIN);
    expr_cmp(r, REG_MAIN, NFT_CMP_EQ, &local, sizeof(local));
    rule_drop(b, r, "an address of this host");
    for (size_t i = 0; i < ARRAY_LEN(families); i++)
        for (size_t k = 0; k < ARRAY_LEN(protocols); k++) {
            r = rule_begin(b, name);
            match_pool(r, MATCH_DESTINATION, &nf->plan, families[i]);
            match_protocol(r, protocols[k]);
            rule_pass(b, r);
        }
    r = from_proxy(b, "antispoof");
    expr_verdict(r, NFT_JUMP, name);
    rule_end(b, r, NULL);
}

static void mark_connection(const struct build *b, uint8_t nfproto)
{
    struct nftnl_rule *r = from_proxy(b, "mark");

    match_ct_state(r, NF_CT_STATE_BIT(IP_CT_NEW));
    match_family(r, nfproto);
    match_own_source(r, nfproto, false);
    expr_meta(r, NFT_META_IIFNAME, REG_MAIN);
    expr_map(r, REG_MAIN, MAP_PROXY_MARKS, REG_MAIN);
    expr_ct_set(r, NFT_CT_MARK, REG_MAIN);
    rule_end(b, r, NULL);
}

void proxy_marks(const struct nf *nf, const struct build *b)
{
    struct nftnl_rule *r;

    for (size_t i = 0; i < ARRAY_LEN(families); i++)
        mark_connection(b, families[i]);
    r = rule_begin(b, "mark");
    match_ct_direction(r, IP_CT_DIR_REPLY);
    match_mark(r, true, NF_MARK_CONTAINER, NF_MARK_MASK);
    expr_ct(r, NFT_CT_MARK, REG_MAIN);
    expr_meta_set(r, NFT_META_MARK, REG_MAIN);
    rule_pass(b, r);
    for (size_t i = 0; i < ARRAY_LEN(families); i++) { /* not for its relay, if it has one */
        r = from_proxy(b, "mark");
        match_pool(r, MATCH_DESTINATION, &nf->plan, families[i]);
        rule_pass(b, r);
    }
}

void proxy_routed(const struct nf *nf, const struct build *b)
{
    struct nftnl_rule *r = rule_begin(b, "routed_from");

    match_mark(r, false, NF_MARK_CONTAINER, NF_MARK_MASK);
    rule_pass(b, r);
    r = from_proxy(b, "routed_from");
    match_interface_prefix(r, NFT_META_OIFNAME, nf->plan.prefix, true);
    expr_verdict(r, NFT_GOTO, "proxied");
    rule_end(b, r, NULL);
}

void proxy_elements(const struct build *b, const struct slot_net *n, bool proxy)
{
    set_proxy(b, SET_ADD, n, NF_PROXY_MARK(n->slot)); /* so that the deletion cannot fail */
    if (!proxy)
        set_proxy(b, SET_DELETE, n, NF_PROXY_MARK(n->slot));
}

/* --- ip rules and routes */

static struct err *rule(struct nf *nf, int family, uint32_t mark, uint32_t table, bool add)
{
    char buf[NL_MESSAGE_MAX];
    struct nlmsghdr *h =
        nl_message(&nf->route, buf, add ? RTM_NEWRULE : RTM_DELRULE, add ? NLM_F_CREATE | NLM_F_EXCL : 0);
    struct fib_rule_hdr *m = mnl_nlmsg_put_extra_header(h, sizeof(*m));

    m->family = (uint8_t)family;
    m->action = FR_ACT_TO_TBL;
    mnl_attr_put_u32(h, FRA_PRIORITY, NF_PROXY_RULE_PRIORITY);
    mnl_attr_put_u32(h, FRA_FWMARK, mark);
    mnl_attr_put_u32(h, FRA_FWMASK, NF_PROXY_MARK_MASK);
    mnl_attr_put_u32(h, FRA_TABLE, table);
    mnl_attr_put_u8(h, FRA_PROTOCOL, NF_ROUTE_PROTOCOL);
    return nl_do(&nf->route, h, add ? EEXIST : ENOENT, "cannot change the ip rule of a proxy");
}

/* Everything by the proxy's link, whatever the address. */
static struct err *route(struct nf *nf, int family, const struct slot_net *n, unsigned index, bool add)
{
    char buf[NL_MESSAGE_MAX];
    struct nlmsghdr *h =
        nl_message(&nf->route, buf, add ? RTM_NEWROUTE : RTM_DELROUTE, add ? NLM_F_CREATE | NLM_F_REPLACE : 0);
    struct rtmsg *m = mnl_nlmsg_put_extra_header(h, sizeof(*m));

    m->rtm_family = (uint8_t)family;
    m->rtm_table = RT_TABLE_UNSPEC; /* the attribute has it */
    m->rtm_protocol = NF_ROUTE_PROTOCOL;
    m->rtm_scope = RT_SCOPE_UNIVERSE;
    m->rtm_type = RTN_UNICAST;
    m->rtm_flags = RTNH_F_ONLINK;
    mnl_attr_put_u32(h, RTA_TABLE, NF_PROXY_TABLE(n->slot));
    if (family == AF_INET)
        mnl_attr_put(h, RTA_GATEWAY, sizeof(n->addr4), &n->addr4);
    else
        mnl_attr_put(h, RTA_GATEWAY, sizeof(n->addr6), &n->addr6);
    mnl_attr_put_u32(h, RTA_OIF, index);
    return nl_do(&nf->route, h, add ? 0 : ESRCH, "cannot change the route of a proxy");
}

struct err *proxy_begin(struct nf *nf, const struct slot_net *n)
{
    unsigned index = if_nametoindex(n->ifname);
    struct err *e = NULL;

    if (!index)
        return NULL; /* with the link it comes again */
    e = sysctl_link(nf, n->ifname, true);
    if (!e)
        e = route(nf, AF_INET, n, index, true);
    if (!e)
        e = rule(nf, AF_INET, NF_PROXY_MARK(n->slot), NF_PROXY_TABLE(n->slot), true);
    if (e || !sysctl_ipv6(nf))
        return e;
    e = route(nf, AF_INET6, n, index, true);
    return e ? e : rule(nf, AF_INET6, NF_PROXY_MARK(n->slot), NF_PROXY_TABLE(n->slot), true);
}

/* The rules last: while one is there a next start knows what is to be done. */
struct err *proxy_end(struct nf *nf, const struct slot_net *n)
{
    unsigned index = if_nametoindex(n->ifname);
    bool ipv6 = sysctl_ipv6_known();
    struct err *e = conntrack_flush(nf, n, CONNTRACK_PROXIED, NULL, 0);

    if (index) { /* else its routes went with it */
        e = err_first(e, sysctl_link(nf, n->ifname, false));
        e = err_first(e, route(nf, AF_INET, n, index, false));
        if (ipv6)
            e = err_first(e, route(nf, AF_INET6, n, index, false));
    }
    e = err_first(e, rule(nf, AF_INET, NF_PROXY_MARK(n->slot), NF_PROXY_TABLE(n->slot), false));
    if (ipv6)
        e = err_first(e, rule(nf, AF_INET6, NF_PROXY_MARK(n->slot), NF_PROXY_TABLE(n->slot), false));
    return e;
}

struct found_rule {
    int family;
    uint32_t mark, table;
};

struct found {
    const struct nf *nf;
    struct found_rule *rules;
    size_t count;
};

/* Those of containers that are no proxies (any more). */
static int collect(const struct nlmsghdr *h, void *data)
{
    const struct nlattr *protocol = nl_attr(h, sizeof(struct fib_rule_hdr), FRA_PROTOCOL);
    uint32_t mark = nl_attr_u32(h, sizeof(struct fib_rule_hdr), FRA_FWMARK),
             table = nl_attr_u32(h, sizeof(struct fib_rule_hdr), FRA_TABLE), slot = mark >> NF_PROXY_MARK_SHIFT;
    struct found *f = data;

    if (!protocol || mnl_attr_get_u8(protocol) != NF_ROUTE_PROTOCOL ||
        nl_attr_u32(h, sizeof(struct fib_rule_hdr), FRA_PRIORITY) != NF_PROXY_RULE_PRIORITY)
        return MNL_CB_OK;
    if (slot <= NET_SLOT_MAX && f->nf->known[slot].proxy && mark == NF_PROXY_MARK(slot) &&
        table == NF_PROXY_TABLE(slot))
        return MNL_CB_OK;
    f->rules = mem_grow(f->rules, f->count + 1, sizeof(*f->rules));
    f->rules[f->count++] =
        (struct found_rule){((const struct fib_rule_hdr *)mnl_nlmsg_get_payload(h))->family, mark, table};
    return MNL_CB_OK;
}

static struct err *remove_found(struct nf *nf, const struct found_rule *found)
{
    uint32_t slot = found->mark >> NF_PROXY_MARK_SHIFT;
    struct err *e = NULL;
    struct slot_net n;

    if (slot > 0 && slot <= (uint32_t)net_plan_max_slot(&nf->plan) && !nf->known[slot].proxy) {
        slot_net_init(&nf->plan, (int)slot, &n);
        e = proxy_end(nf, &n);
    }
    return e ? e : rule(nf, found->family, found->mark, found->table, false);
}

static struct err *sweep(struct nf *nf, int family)
{
    char buf[NL_MESSAGE_MAX];
    struct nlmsghdr *h = nl_message(&nf->route, buf, RTM_GETRULE, NLM_F_DUMP);
    struct fib_rule_hdr *m = mnl_nlmsg_put_extra_header(h, sizeof(*m));
    struct found f = {.nf = nf};
    struct err *e = NULL;
    int rc;

    m->family = (uint8_t)family;
    rc = nl_dump(&nf->route, h, collect, &f);
    if (rc)
        e = err_errno(rc, "cannot list the ip rules");
    for (size_t i = 0; !e && i < f.count; i++)
        e = remove_found(nf, &f.rules[i]);
    free(f.rules);
    return e;
}

struct err *proxy_sweep(struct nf *nf)
{
    struct err *e = sweep(nf, AF_INET);

    return e || !sysctl_ipv6_known() ? e : sweep(nf, AF_INET6);
}
