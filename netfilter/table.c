/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The fixed part of the table. Container interfaces are known by their prefix, so a link that nobody has told us of
 * yet is closed: it is in no set. Dispatch is by verdict maps, so a packet's cost does not grow with the number of
 * containers.
 *
 *   antispoof, mark, mark_proxied: see arriving.c
 *   host_input   from containers to this host
 *   host_output  from this host to containers
 *   routed       between containers and the rest
 *   forwarded    prerouting: ports of this host that lead to containers, see forward.c
 *   source_nat   towards the uplink
 */
#include "netfilter/nf.h"

#include <linux/netfilter/nf_conntrack_common.h>
#include <linux/netfilter_ipv4.h>
#include <linux/rtnetlink.h>

#include "netfilter/chain.h"
#include "netfilter/match.h"
#include "netfilter/set.h"

#define CT_OPEN (uint32_t)(NF_CT_STATE_BIT(IP_CT_ESTABLISHED) | NF_CT_STATE_BIT(IP_CT_RELATED))

#define LINK_LOCAL4 0xa9fe0000u /* 169.254.0.0/16: of a cloud, its metadata */

enum { ND_FIRST = 133, ND_LAST = 137 }; /* ICMPv6 types of neighbour discovery */

void table_skip_foreign(const struct nf *nf, const struct build *b, const char *name, uint32_t key)
{
    struct nftnl_rule *r = rule_begin(b, name);

    match_interface_prefix(r, key, nf->plan.prefix, false);
    rule_pass(b, r);
}

static void by_state(const struct build *b, const char *name)
{
    struct nftnl_rule *r = rule_begin(b, name);

    match_ct_state(r, CT_OPEN);
    rule_pass(b, r);
    r = rule_begin(b, name);
    match_ct_state(r, NF_CT_STATE_INVALID_BIT);
    rule_drop(b, r, "invalid");
}

void table_drop_to4(const struct build *b, const char *name, uint32_t network, uint32_t span, const char *why)
{
    const struct rule_range range = {network, network | span};
    struct nftnl_rule *r = rule_begin(b, name);

    match_family(r, NFPROTO_IPV4);
    match_network4(r, MATCH_DESTINATION, &range);
    rule_drop(b, r, why);
}

/* What passes here without a list being asked takes an entry of the connection table as well. */
static void count(const struct build *b, const char *name)
{
    struct nftnl_rule *r = rule_begin(b, name);

    set_mark(r, false, NF_MARK_COUNTED, NF_MARK_COUNTED);
    rule_end(b, r, NULL);
}

/* What is not decided here is up to the lists of the containers that the packet comes from and goes to. */
static void ask(const struct build *b, const char *name)
{
    struct nftnl_rule *r = rule_begin(b, name);

    set_mark(r, false, NF_MARK_ASKED, NF_MARK_ASKED);
    rule_end(b, r, NULL);
}

static void offered(const struct build *b, const char *name, uint8_t protocol, const uint16_t *ports, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const struct rule_range port = {ports[i], ports[i]};
        struct nftnl_rule *r = rule_begin(b, name);

        match_protocol(r, protocol);
        match_port(r, MATCH_DESTINATION, &port);
        rule_pass(b, r);
    }
}

static void host_input(const struct nf *nf, const struct build *b)
{
    const char *name = "host_input";
    struct nftnl_rule *r;

    /* New connections to a relay meet the egress rules here: the addresses are still those that the container used. */
    chain_plain(b, "relayed");
    ask(b, "relayed");
    rule_pass(b, rule_begin(b, "relayed"));
    chain_base(b, name, "filter", NF_INET_LOCAL_IN, NF_IP_PRI_FILTER);
    table_skip_foreign(nf, b, name, NFT_META_IIFNAME);
    by_state(b, name);
    r = rule_begin(b, name);
    match_mark(r, false, NF_MARK_REPLY, NF_MARK_MASK);
    expr_verdict(r, NFT_GOTO, "relayed");
    rule_end(b, r, NULL);
    count(b, name);
    r = rule_begin(b, name);
    match_protocol(r, IPPROTO_ICMP);
    rule_pass(b, r);
    r = rule_begin(b, name);
    match_protocol(r, IPPROTO_ICMPV6);
    rule_pass(b, r);
    offered(b, name, IPPROTO_TCP, nf->host_tcp_ports, nf->host_tcp_port_count);
    offered(b, name, IPPROTO_UDP, nf->host_udp_ports, nf->host_udp_port_count);
    rule_drop(b, rule_begin(b, name), "not offered to containers");
}

static void closed_unless_ready(const struct build *b, const char *name)
{
    struct nftnl_rule *r = rule_begin(b, name);

    match_interface_set(r, NFT_META_OIFNAME, SET_READY, false, true);
    rule_drop(b, r, "not ready");
}

/* One set for all containers and not rules in each: the kernel checks every rule of the table at every change. */
static void kit_ports(const struct build *b, const char *name)
{
    struct nftnl_rule *r = rule_begin(b, name);

    match_protocol(r, IPPROTO_TCP);
    expr_meta(r, NFT_META_OIFNAME, REG_QUARTER(0));
    expr_payload(r, NFT_PAYLOAD_TRANSPORT_HEADER, 2, 2, REG_QUARTER(4));
    expr_lookup(r, REG_QUARTER(0), SET_KIT_PORTS, false, false);
    rule_drop(b, r, "kit port");
}

static void host_output(const struct nf *nf, const struct build *b)
{
    const char *name = "host_output";
    const uint8_t nd_first = ND_FIRST, nd_last = ND_LAST;
    const uint32_t local = RTN_LOCAL;
    struct nftnl_rule *r;

    chain_base(b, name, "filter", NF_INET_LOCAL_OUT, NF_IP_PRI_FILTER);
    table_skip_foreign(nf, b, name, NFT_META_OIFNAME);
    by_state(b, name);
    r = rule_begin(b, name);
    match_protocol(r, IPPROTO_ICMPV6);
    expr_payload(r, NFT_PAYLOAD_TRANSPORT_HEADER, 0, 1, REG_MAIN);
    expr_range(r, REG_MAIN, &nd_first, &nd_last, 1);
    rule_pass(b, r);
    closed_unless_ready(b, name);
    r = rule_begin(b, name);
    match_mark(r, false, NF_MARK_PROXIED, NF_MARK_MASK);
    rule_pass(b, r);
    r = rule_begin(b, name); /* a source address that is not ours: a transparent socket */
    expr_fib_type(r, NFTA_FIB_F_SADDR, REG_MAIN);
    expr_cmp(r, REG_MAIN, NFT_CMP_NEQ, &local, sizeof(local));
    rule_pass(b, r);
    r = rule_begin(b, name);
    expr_meta(r, NFT_META_SKUID, REG_MAIN);
    expr_lookup(r, REG_MAIN, SET_PROXY_UIDS, false, false);
    rule_pass(b, r);
    kit_ports(b, name);
    ask(b, name);
}

/* To a container, whoever may send to it. */
static void deliver(const struct build *b, const char *name)
{
    closed_unless_ready(b, name);
    kit_ports(b, name);
    ask(b, name);
}

/* Between containers only inside a project that says so: the group of the sender's interface, together with the
 * receiver's interface, is in the set. The way from one lookup to the other is the packet's mark, whose work is done
 * when it gets here: nft(8) cannot list a key that is made of a lookup. */
static void apart(const struct nf *nf, const struct build *b, const char *name)
{
    struct nftnl_rule *r = rule_begin(b, name);

    expr_meta(r, NFT_META_IIFNAME, REG_MAIN);
    expr_map(r, REG_MAIN, MAP_PROJECT, REG_MAIN);
    expr_meta_set(r, NFT_META_MARK, REG_MAIN);
    rule_end(b, r, NULL);
    r = rule_begin(b, name);
    expr_meta(r, NFT_META_MARK, REG_QUARTER(0));
    expr_meta(r, NFT_META_OIFNAME, REG_QUARTER(1));
    expr_lookup(r, REG_QUARTER(0), SET_PEERS, false, false);
    expr_verdict(r, NFT_GOTO, "delivered");
    rule_end(b, r, NULL);
    r = rule_begin(b, name);
    match_ct_status(r, IPS_DST_NAT, false); /* a forward is open to containers as to all */
    match_interface_prefix(r, NFT_META_IIFNAME, nf->plan.prefix, true);
    rule_drop(b, r, "between containers");
}

static void routed(const struct nf *nf, const struct build *b)
{
    struct nftnl_rule *r;

    chain_plain(b, "proxied");
    by_state(b, "proxied");
    closed_unless_ready(b, "proxied");
    count(b, "proxied");
    rule_pass(b, rule_begin(b, "proxied"));
    chain_plain(b, "routed_from");
    proxy_routed(nf, b);
    r = rule_begin(b, "routed_from"); /* before established ones pass */
    match_interface_set(r, NFT_META_IIFNAME, SET_CONFINED, false, false);
    rule_drop(b, r, "confined");
    table_drop_to4(b, "routed_from", LINK_LOCAL4, IN_CLASSB_HOST, "link-local");
    by_state(b, "routed_from");
    ask(b, "routed_from");
    chain_plain(b, "delivered");
    deliver(b, "delivered");
    chain_plain(b, "routed_to");
    by_state(b, "routed_to");
    if (!nf->inter_container)
        apart(nf, b, "routed_to");
    deliver(b, "routed_to");
    chain_base(b, "routed", "filter", NF_INET_FORWARD, NF_IP_PRI_FILTER);
    r = rule_begin(b, "routed");
    match_interface_prefix(r, NFT_META_IIFNAME, nf->plan.prefix, true);
    expr_verdict(r, NFT_JUMP, "routed_from");
    rule_end(b, r, NULL);
    r = rule_begin(b, "routed");
    match_interface_prefix(r, NFT_META_OIFNAME, nf->plan.prefix, true);
    expr_verdict(r, NFT_JUMP, "routed_to");
    rule_end(b, r, NULL);
}

static void leaves_by_uplink(const struct nf *nf, struct nftnl_rule *r)
{
    if (nf->uplink) {
        match_interface(r, NFT_META_OIFNAME, nf->uplink, true);
        return;
    }
    match_interface_prefix(r, NFT_META_OIFNAME, nf->plan.prefix, false);
    match_interface(r, NFT_META_OIFNAME, "lo", false);
}

/* A container that comes back to itself by a forward: it would take its own address for a forged one. */
static void to_itself(const struct build *b, uint8_t nfproto, uint32_t offset, uint32_t len, const char *set)
{
    struct nftnl_rule *r = rule_begin(b, "source_nat");

    match_family(r, nfproto);
    match_ct_status(r, IPS_DST_NAT, true);
    expr_meta(r, NFT_META_OIFNAME, REG_QUARTER(0));
    expr_payload(r, NFT_PAYLOAD_NETWORK_HEADER, offset, len, REG_QUARTER(4));
    expr_lookup(r, REG_QUARTER(0), set, false, false);
    expr_masquerade(r);
    rule_end(b, r, NULL);
}

static void source_nat(const struct nf *nf, const struct build *b)
{
    static const uint8_t families[] = {NFPROTO_IPV4, NFPROTO_IPV6};

    chain_base(b, "source_nat", "nat", NF_INET_POST_ROUTING, NF_IP_PRI_NAT_SRC);
    to_itself(b, NFPROTO_IPV4, 12, 4, SET_ADDRESSES4);
    to_itself(b, NFPROTO_IPV6, 8, 16, SET_ADDRESSES6);
    for (size_t i = 0; i < ARRAY_LEN(families); i++) {
        struct nftnl_rule *r = rule_begin(b, "source_nat");

        leaves_by_uplink(nf, r);
        match_pool(r, MATCH_SOURCE, &nf->plan, families[i]);
        expr_masquerade(r);
        rule_end(b, r, NULL);
    }
}

void table_delete(const struct nf *nf, const struct build *b)
{
    table_absent(b);
    lists_delete(nf, b);
}

void table_create(const struct nf *nf, const struct build *b)
{
    table_present(b);
    sets_create(b);
    for (size_t i = 0; i < nf->proxy_uid_count; i++)
        set_add_uid(b, nf->proxy_uids[i]);
    arriving_antispoof(nf, b);
    arriving_marks(nf, b);
    host_input(nf, b);
    host_output(nf, b);
    routed(nf, b);
    forward_chain(b);
    source_nat(nf, b);
    lists_create(nf, b);
}
