/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What comes out of containers, before it is routed.
 *
 *   antispoof    before conntrack: interface, MAC and source address must belong together. That holds for neighbour
 *                discovery, too: its packets make entries of a table that all links of the host share, by their source
 *   mark         replies to sockets of a transparent proxy get the mark that routes them to this host;
 *                so do packets for a relay, with its socket
 *   mark_proxied output: connections of sockets that a proxy marked itself
 */
#include "netfilter/nf.h"

#include <arpa/inet.h>
#include <linux/netfilter/nf_conntrack_common.h>
#include <linux/netfilter/nf_conntrack_tuple_common.h>
#include <linux/netfilter_ipv4.h>
#include <linux/rtnetlink.h>

#include "netfilter/chain.h"
#include "netfilter/match.h"
#include "netfilter/set.h"

enum { ND_SOLICITATION = 135 }; /* ICMPv6 type of neighbour discovery */

/* Addresses of relays are names for rules. A packet that has one as its destination was made by hand, to be found a
 * socket that is another container's. */
static void no_relays(const struct build *b, const char *name)
{
    static const struct in6_addr discard = {.s6_addr = {0x01}};
    struct nftnl_rule *r;

    table_drop_to4(b, name, INADDR_LOOPBACK & IN_CLASSA_NET, IN_CLASSA_HOST, "loopback");
    r = rule_begin(b, name);
    match_family(r, NFPROTO_IPV6);
    match_network6(r, MATCH_DESTINATION, &discard, 64);
    rule_drop(b, r, "a relay's address");
}

/* Of the link-local addresses there is one at the host's end of a link: a packet to any other would have the host look
 * for it, which takes an entry of the neighbour table that all links share. */
static void only_the_gateway(const struct build *b, const char *name)
{
    static const struct in6_addr link_local = {.s6_addr = {0xfe, 0x80}};
    struct nftnl_rule *r = rule_begin(b, name);
    struct in6_addr gateway;

    inet_pton(AF_INET6, NET_GATEWAY6, &gateway);
    match_family(r, NFPROTO_IPV6);
    match_network6(r, MATCH_DESTINATION, &link_local, 10);
    expr_payload(r, NFT_PAYLOAD_NETWORK_HEADER, 24, sizeof(gateway), REG_MAIN);
    expr_cmp(r, REG_MAIN, NFT_CMP_NEQ, &gateway, sizeof(gateway));
    rule_drop(b, r, "not on its link");
}

void arriving_antispoof(const struct nf *nf, const struct build *b)
{
    static const struct in6_addr unspecified = {0};
    const char *name = "antispoof";
    struct nftnl_rule *r;

    chain_base(b, name, "filter", NF_INET_PRE_ROUTING, NF_IP_PRI_RAW);
    table_skip_foreign(nf, b, name, NFT_META_IIFNAME);
    r = rule_begin(b, name);
    expr_meta(r, NFT_META_IIFNAME, REG_QUARTER(0));
    expr_payload(r, NFT_PAYLOAD_LL_HEADER, 6, 6, REG_QUARTER(4));
    expr_lookup(r, REG_QUARTER(0), SET_HARDWARE, false, true);
    rule_drop(b, r, "not its MAC");
    no_relays(b, name);
    only_the_gateway(b, name);
    rule_dispatch(b, name, NFT_META_IIFNAME, MAP_LIMITED);
    r = rule_begin(b, name);
    match_family(r, NFPROTO_IPV4);
    match_own_source(r, NFPROTO_IPV4, true);
    rule_pass(b, r);
    r = rule_begin(b, name);
    match_family(r, NFPROTO_IPV6);
    match_own_source(r, NFPROTO_IPV6, true);
    rule_pass(b, r);
    r = rule_begin(b, name); /* duplicate address detection has no source yet */
    match_family(r, NFPROTO_IPV6);
    match_network6(r, MATCH_SOURCE, &unspecified, 128);
    match_protocol(r, IPPROTO_ICMPV6);
    match_icmp(r, 0, ND_SOLICITATION);
    rule_pass(b, r);
    proxy_antispoof(nf, b);
    rule_drop(b, rule_begin(b, name), "not its address");
}

/* A container whose way out is a relay: its packets get the relay's socket. Without a relay no rule matches and the
 * packet goes on, to be dropped as that of a confined container. */
static void to_relay(const struct build *b, uint8_t nfproto, uint8_t protocol, uint16_t port, const char *map)
{
    const struct rule_range dns = {NET_DNS_PORT, NET_DNS_PORT};
    const uint16_t big_port = htons(port);
    const uint32_t local = RTN_LOCAL;
    struct nftnl_rule *r = rule_begin(b, "mark");

    if (protocol == IPPROTO_UDP)
        match_ct_direction(r, IP_CT_DIR_ORIGINAL); /* not answers to a proxy of this host */
    match_family(r, nfproto);
    match_protocol(r, protocol);
    if (port == NET_DNS_PORT) {
        match_port(r, MATCH_DESTINATION, &dns);
    } else { /* what this host offers to containers stays in reach */
        expr_fib_type(r, NFTA_FIB_F_DADDR, REG_MAIN);
        expr_cmp(r, REG_MAIN, NFT_CMP_NEQ, &local, sizeof(local));
    }
    expr_meta(r, NFT_META_IIFNAME, REG_MAIN);
    expr_map(r, REG_MAIN, map, REG_ADDRESS);
    expr_value(r, REG_PORT, &big_port, sizeof(big_port));
    expr_tproxy(r, nfproto, REG_ADDRESS, REG_PORT);
    set_mark(r, false, NF_MARK_REPLY, NF_MARK_MASK);
    rule_pass(b, r);
}

/* A container that rejects a proxy's packet tells the client's address so, and the proxy has to hear it, or it waits
 * until its time is over. The kernel finds the socket by the packet that the error is about. Only an error about a
 * packet to the container itself is taken: with others it could end its neighbours' connections. */
static void error_to_proxy(const struct build *b, uint8_t nfproto, uint8_t protocol)
{
    const uint8_t yes = 1;
    struct nftnl_rule *r = rule_begin(b, "mark");

    match_family(r, nfproto);
    match_protocol(r, protocol);
    match_ct_state(r, NF_CT_STATE_BIT(IP_CT_RELATED));
    match_error_about_own(r, nfproto);
    expr_socket(r, NFT_SOCKET_TRANSPARENT, REG_MAIN);
    expr_cmp(r, REG_MAIN, NFT_CMP_EQ, &yes, sizeof(yes));
    set_mark(r, false, NF_MARK_REPLY, NF_MARK_MASK);
    rule_pass(b, r);
}

void arriving_marks(const struct nf *nf, const struct build *b)
{
    static const uint8_t protocols[] = {IPPROTO_TCP, IPPROTO_UDP};
    const uint8_t yes = 1, no = 0;
    const uint32_t local = RTN_LOCAL;
    struct nftnl_rule *r;

    chain_base(b, "mark", "filter", NF_INET_PRE_ROUTING, NF_IP_PRI_MANGLE);
    table_skip_foreign(nf, b, "mark", NFT_META_IIFNAME);
    proxy_marks(nf, b);
    r = rule_begin(b, "mark");
    match_ct_direction(r, IP_CT_DIR_REPLY);
    match_mark(r, true, NF_CT_PROXIED, NF_MARK_MASK);
    set_mark(r, false, NF_MARK_REPLY, NF_MARK_MASK);
    rule_pass(b, r);
    /* Before sockets are looked for: a relay's that is not connected yet would be found for what is another one's. */
    to_relay(b, NFPROTO_IPV4, IPPROTO_UDP, NET_DNS_PORT, MAP_RELAY4);
    to_relay(b, NFPROTO_IPV6, IPPROTO_UDP, NET_DNS_PORT, MAP_RELAY6);
    to_relay(b, NFPROTO_IPV4, IPPROTO_UDP, NET_RELAY_PORT, MAP_RELAY4);
    to_relay(b, NFPROTO_IPV6, IPPROTO_UDP, NET_RELAY_PORT, MAP_RELAY6);
    error_to_proxy(b, NFPROTO_IPV4, IPPROTO_ICMP);
    error_to_proxy(b, NFPROTO_IPV6, IPPROTO_ICMPV6);
    for (size_t i = 0; i < ARRAY_LEN(protocols); i++) {
        r = rule_begin(b, "mark");
        match_protocol(r, protocols[i]);
        expr_socket(r, NFT_SOCKET_TRANSPARENT, REG_MAIN);
        expr_cmp(r, REG_MAIN, NFT_CMP_EQ, &yes, sizeof(yes));
        expr_socket(r, NFT_SOCKET_WILDCARD, REG_MAIN);
        expr_cmp(r, REG_MAIN, NFT_CMP_EQ, &no, sizeof(no));
        expr_fib_type(r, NFTA_FIB_F_DADDR, REG_MAIN); /* to this host it gets anyway, by the rules for that */
        expr_cmp(r, REG_MAIN, NFT_CMP_NEQ, &local, sizeof(local));
        set_mark(r, false, NF_MARK_REPLY, NF_MARK_MASK);
        rule_pass(b, r);
    }
    to_relay(b, NFPROTO_IPV4, IPPROTO_TCP, NET_RELAY_PORT, MAP_RELAY4);
    to_relay(b, NFPROTO_IPV6, IPPROTO_TCP, NET_RELAY_PORT, MAP_RELAY6);
    chain_base(b, "mark_proxied", "filter", NF_INET_LOCAL_OUT, NF_IP_PRI_MANGLE);
    table_skip_foreign(nf, b, "mark_proxied", NFT_META_OIFNAME);
    r = rule_begin(b, "mark_proxied");
    match_mark(r, false, NF_MARK_PROXIED, NF_MARK_MASK);
    set_mark(r, true, NF_CT_PROXIED, NF_MARK_MASK);
    rule_end(b, r, NULL);
}
