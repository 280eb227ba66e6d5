/* SPDX-License-Identifier: Apache-2.0 */
#include "netfilter/match.h"

#include <arpa/inet.h>
#include <linux/netfilter/nf_conntrack_tuple_common.h>
#include <net/if.h>

#include "netfilter/set.h"

void match_interface(struct nftnl_rule *r, uint32_t key, const char *name, bool is)
{
    char padded[IFNAMSIZ] = {0}; /* the kernel compares all 16 bytes */

    strncpy(padded, name, sizeof(padded) - 1);
    expr_meta(r, key, REG_MAIN);
    expr_cmp(r, REG_MAIN, is ? NFT_CMP_EQ : NFT_CMP_NEQ, padded, sizeof(padded));
}

void match_interface_prefix(struct nftnl_rule *r, uint32_t key, const char *prefix, bool is)
{
    expr_meta(r, key, REG_MAIN);
    expr_cmp(r, REG_MAIN, is ? NFT_CMP_EQ : NFT_CMP_NEQ, prefix, (uint32_t)strlen(prefix));
}

void match_interface_set(struct nftnl_rule *r, uint32_t key, const char *set, bool is_map, bool negated)
{
    expr_meta(r, key, REG_MAIN);
    expr_lookup(r, REG_MAIN, set, is_map, negated);
}

void rule_dispatch(const struct build *b, const char *chain, uint32_t key, const char *map)
{
    struct nftnl_rule *r = rule_begin(b, chain);

    match_interface_set(r, key, map, true, false);
    rule_end(b, r, NULL);
}

void match_family(struct nftnl_rule *r, uint8_t nfproto)
{
    expr_meta(r, NFT_META_NFPROTO, REG_MAIN);
    expr_cmp(r, REG_MAIN, NFT_CMP_EQ, &nfproto, sizeof(nfproto));
}

void match_protocol(struct nftnl_rule *r, uint8_t protocol)
{
    expr_meta(r, NFT_META_L4PROTO, REG_MAIN);
    expr_cmp(r, REG_MAIN, NFT_CMP_EQ, &protocol, sizeof(protocol));
}

void match_port(struct nftnl_rule *r, enum match_side side, const struct rule_range *ports)
{
    uint16_t first = htons((uint16_t)ports->first), last = htons((uint16_t)ports->last);

    expr_payload(r, NFT_PAYLOAD_TRANSPORT_HEADER, side == MATCH_SOURCE ? 0 : 2, sizeof(first), REG_MAIN);
    if (first == last)
        expr_cmp(r, REG_MAIN, NFT_CMP_EQ, &first, sizeof(first));
    else
        expr_range(r, REG_MAIN, &first, &last, sizeof(first));
}

void match_icmp(struct nftnl_rule *r, uint32_t offset, uint8_t value)
{
    expr_payload(r, NFT_PAYLOAD_TRANSPORT_HEADER, offset, sizeof(value), REG_MAIN);
    expr_cmp(r, REG_MAIN, NFT_CMP_EQ, &value, sizeof(value));
}

void match_network4(struct nftnl_rule *r, enum match_side side, const struct rule_range *network)
{
    uint32_t first = htonl(network->first), last = htonl(network->last), zero = 0;
    uint32_t span = network->last - network->first; /* 2^n - 1 for a network in CIDR form */
    uint32_t mask = htonl(~span);

    expr_payload(r, NFT_PAYLOAD_NETWORK_HEADER, side == MATCH_SOURCE ? 12 : 16, sizeof(first), REG_MAIN);
    if (span & (span + 1) || network->first & span) {
        expr_range(r, REG_MAIN, &first, &last, sizeof(first));
        return;
    }
    if (span)
        expr_bitwise(r, REG_MAIN, &mask, &zero, sizeof(mask));
    expr_cmp(r, REG_MAIN, NFT_CMP_EQ, &first, sizeof(first));
}

void match_network6(struct nftnl_rule *r, enum match_side side, const struct in6_addr *address, int length)
{
    struct in6_addr mask = {0}, zero = {0};

    for (int bit = 0; bit < length; bit++)
        mask.s6_addr[bit / 8] |= (uint8_t)(0x80 >> (bit % 8));
    expr_payload(r, NFT_PAYLOAD_NETWORK_HEADER, side == MATCH_SOURCE ? 8 : 24, sizeof(mask), REG_MAIN);
    if (length < 128)
        expr_bitwise(r, REG_MAIN, &mask, &zero, sizeof(mask));
    expr_cmp(r, REG_MAIN, NFT_CMP_EQ, address, sizeof(*address));
}

void match_pool(struct nftnl_rule *r, enum match_side side, const struct net_plan *plan, uint8_t nfproto)
{
    const uint32_t first = ntohl(plan->ipv4.s_addr);
    const struct rule_range pool = {first, first | (UINT32_MAX >> plan->ipv4_length)};

    match_family(r, nfproto);
    if (nfproto == NFPROTO_IPV4)
        match_network4(r, side, &pool);
    else
        match_network6(r, side, &plan->ipv6, plan->ipv6_length);
}

void match_own_source(struct nftnl_rule *r, uint8_t nfproto, bool is)
{
    bool v4 = nfproto == NFPROTO_IPV4;

    expr_meta(r, NFT_META_IIFNAME, REG_QUARTER(0));
    expr_payload(r, NFT_PAYLOAD_NETWORK_HEADER, v4 ? 12 : 8, v4 ? 4 : 16, REG_QUARTER(4));
    expr_lookup(r, REG_QUARTER(0), v4 ? SET_ADDRESSES4 : SET_ADDRESSES6, false, !is);
}

void match_error_about_own(struct nftnl_rule *r, uint8_t nfproto)
{
    bool v4 = nfproto == NFPROTO_IPV4;

    /* The header of the error has 8 bytes, then comes the header of the packet that it is about (RFC 792, RFC 4443). */
    expr_meta(r, NFT_META_IIFNAME, REG_QUARTER(0));
    expr_payload(r, NFT_PAYLOAD_TRANSPORT_HEADER, 8 + (v4 ? 16 : 24), v4 ? 4 : 16, REG_QUARTER(4));
    expr_lookup(r, REG_QUARTER(0), v4 ? SET_ADDRESSES4 : SET_ADDRESSES6, false, false);
}

static void match_ct_bits(struct nftnl_rule *r, uint32_t key, uint32_t bits, bool any)
{
    const uint32_t zero = 0;

    expr_ct(r, key, REG_MAIN);
    expr_bitwise(r, REG_MAIN, &bits, &zero, sizeof(bits));
    expr_cmp(r, REG_MAIN, any ? NFT_CMP_NEQ : NFT_CMP_EQ, &zero, sizeof(zero));
}

void match_ct_state(struct nftnl_rule *r, uint32_t states)
{
    match_ct_bits(r, NFT_CT_STATE, states, true);
}

void match_ct_status(struct nftnl_rule *r, uint32_t bits, bool is)
{
    match_ct_bits(r, NFT_CT_STATUS, bits, is);
}

void match_ct_direction(struct nftnl_rule *r, uint8_t direction)
{
    expr_ct(r, NFT_CT_DIRECTION, REG_MAIN);
    expr_cmp(r, REG_MAIN, NFT_CMP_EQ, &direction, sizeof(direction));
}

void match_mark(struct nftnl_rule *r, bool of_ct, uint32_t value, uint32_t mask)
{
    const uint32_t zero = 0;

    if (of_ct)
        expr_ct(r, NFT_CT_MARK, REG_MAIN);
    else
        expr_meta(r, NFT_META_MARK, REG_MAIN);
    expr_bitwise(r, REG_MAIN, &mask, &zero, sizeof(mask));
    expr_cmp(r, REG_MAIN, NFT_CMP_EQ, &value, sizeof(value));
}

void set_mark(struct nftnl_rule *r, bool of_ct, uint32_t value, uint32_t mask)
{
    const uint32_t keep = ~mask;

    if (of_ct)
        expr_ct(r, NFT_CT_MARK, REG_MAIN);
    else
        expr_meta(r, NFT_META_MARK, REG_MAIN);
    expr_bitwise(r, REG_MAIN, &keep, &value, sizeof(keep));
    if (of_ct)
        expr_ct_set(r, NFT_CT_MARK, REG_MAIN);
    else
        expr_meta_set(r, NFT_META_MARK, REG_MAIN);
}
