/* SPDX-License-Identifier: Apache-2.0 */
/* What rules match, in words: an interface, a protocol, a port, a network, a state, a mark. */
#pragma once

#include "netfilter/address.h"
#include "netfilter/expr.h"
#include "netfilter/rule.h"

enum match_side { MATCH_SOURCE, MATCH_DESTINATION };

/* key: NFT_META_IIFNAME or NFT_META_OIFNAME. A prefix is any longer name too. */
void match_interface(struct nftnl_rule *r, uint32_t key, const char *name, bool is);
void match_interface_prefix(struct nftnl_rule *r, uint32_t key, const char *prefix, bool is);
/* An interface name set or verdict map. */
void match_interface_set(struct nftnl_rule *r, uint32_t key, const char *set, bool is_map, bool negated);
void match_family(struct nftnl_rule *r, uint8_t nfproto);
void match_protocol(struct nftnl_rule *r, uint8_t protocol);
void match_port(struct nftnl_rule *r, enum match_side side, const struct rule_range *ports);
void match_icmp(struct nftnl_rule *r, uint32_t offset, uint8_t value); /* offset 0: type, 1: code */
/* The family must have been matched before. */
void match_network4(struct nftnl_rule *r, enum match_side side, const struct rule_range *network);
void match_network6(struct nftnl_rule *r, enum match_side side, const struct in6_addr *address, int length);
/* Of the containers; the family is matched, too. */
void match_pool(struct nftnl_rule *r, enum match_side side, const struct net_plan *plan, uint8_t nfproto);
/* The interface has the source address (is), or has not. The family must have been matched before. */
void match_own_source(struct nftnl_rule *r, uint8_t nfproto, bool is);
/* Of an ICMP error: what it is about was sent to an address that the interface has. IPv4 without options. */
void match_error_about_own(struct nftnl_rule *r, uint8_t nfproto);
void match_ct_state(struct nftnl_rule *r, uint32_t states);         /* NF_CT_STATE_BIT()s, any of */
void match_ct_status(struct nftnl_rule *r, uint32_t bits, bool is); /* IPS_* of conntrack, any of / none of */
void match_ct_direction(struct nftnl_rule *r, uint8_t direction);   /* enum ip_conntrack_dir */
void match_mark(struct nftnl_rule *r, bool of_ct, uint32_t value, uint32_t mask);

/* A whole rule: on by a verdict map of interfaces. */
void rule_dispatch(const struct build *b, const char *chain, uint32_t key, const char *map);

/* Statement: replaces the bits of mask in the mark. */
void set_mark(struct nftnl_rule *r, bool of_ct, uint32_t value, uint32_t mask);
