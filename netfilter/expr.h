/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rules as nf_tables takes them: small matches and statements put on one struct nftnl_rule. Every helper here names
 * what it matches; registers and byte orders stay inside expr.c and match.c.
 */
#pragma once

#include <libnftnl/rule.h>

#include "netfilter/batch.h"

struct hits;

struct build {
    struct batch *batch;
    const char *table;
    const struct hits *hits; /* what user rules have counted before they are replaced */
};

/* A rule at the end of a chain, and its way into the batch (which frees it). comment may be NULL. */
struct nftnl_rule *rule_begin(const struct build *b, const char *chain);
void rule_end(const struct build *b, struct nftnl_rule *r, const char *comment);
/* The same of one that a user's rule is made into: its id goes along, see hits.h. */
#define UDATA_RULE_ID 0x6e /* in a rule's user data; nft(8) passes over what it does not know */
void rule_end_user(const struct build *b, struct nftnl_rule *r, const char *comment, uint64_t id);

/* Two ends of rules, the rule into the batch included. why: shown by nft(8) beside the counter. */
void rule_pass(const struct build *b, struct nftnl_rule *r);
void rule_drop(const struct build *b, struct nftnl_rule *r, const char *why);

/* Registers: one of 16 bytes, or its 4-byte quarters for concatenations. */
#define REG_MAIN NFT_REG_1
#define REG_ADDRESS NFT_REG_2
#define REG_PORT NFT_REG_3
#define REG_QUARTER(n) (NFT_REG32_00 + (n))

/* Plain expressions. Data is in network byte order, marks and states in the host's. */
void expr_meta(struct nftnl_rule *r, uint32_t key, uint32_t reg);
void expr_meta_set(struct nftnl_rule *r, uint32_t key, uint32_t reg);
void expr_ct(struct nftnl_rule *r, uint32_t key, uint32_t reg);
void expr_ct_set(struct nftnl_rule *r, uint32_t key, uint32_t reg);
void expr_payload(struct nftnl_rule *r, uint32_t base, uint32_t offset, uint32_t len, uint32_t reg);
void expr_bitwise(struct nftnl_rule *r, uint32_t reg, const void *mask, const void * xor, uint32_t len);
void expr_cmp(struct nftnl_rule *r, uint32_t reg, uint32_t op, const void *data, uint32_t len);
void expr_range(struct nftnl_rule *r, uint32_t reg, const void *first, const void *last, uint32_t len);
void expr_lookup(struct nftnl_rule *r, uint32_t reg, const char *set, bool is_map, bool negated);
/* The value of a map that is no verdict map, into another register; no match without an element. */
void expr_map(struct nftnl_rule *r, uint32_t reg, const char *map, uint32_t to);
void expr_value(struct nftnl_rule *r, uint32_t reg, const void *data, uint32_t len);
void expr_fib_type(struct nftnl_rule *r, uint32_t flags, uint32_t reg);
void expr_socket(struct nftnl_rule *r, uint32_t key, uint32_t reg);

/* Above a rate, in bytes a second, with a burst; with more connections than count. Both have a state of their own. */
void expr_limit_over(struct nftnl_rule *r, uint64_t rate, uint32_t burst);
void expr_connections_over(struct nftnl_rule *r, uint32_t count);

/* The flow's part, 0 to parts - 1 and `first` more, by a hash that is the same in both directions. */
void expr_part(struct nftnl_rule *r, uint32_t parts, uint32_t first, uint32_t reg);
/* The packet's connection is counted in the element of a dynamic set that has the key, which is made when there is
 * none. Matches above `count`. */
void expr_count_in(struct nftnl_rule *r, const char *set, uint32_t key_reg, uint32_t count);
/* The key becomes an element of a dynamic set, and stays for so long from now. */
void expr_put(struct nftnl_rule *r, const char *set, uint32_t key_reg, uint64_t timeout_ms);

/* Statements. */
void expr_counter(struct nftnl_rule *r);
void expr_counter_from(struct nftnl_rule *r, uint64_t packets, uint64_t bytes);
void expr_verdict(struct nftnl_rule *r, int verdict, const char *chain); /* chain: NFT_JUMP and NFT_GOTO */
void expr_reject_tcp(struct nftnl_rule *r);
void expr_reject_icmp(struct nftnl_rule *r); /* port unreachable, of either family */
void expr_masquerade(struct nftnl_rule *r);
/* The destination becomes the address and port of the registers. */
void expr_dnat(struct nftnl_rule *r, uint32_t nfproto, uint32_t address_reg, uint32_t port_reg);
/* Into the transparent socket that has the address and port of the registers; no match when there is none. */
void expr_tproxy(struct nftnl_rule *r, uint32_t nfproto, uint32_t address_reg, uint32_t port_reg);
