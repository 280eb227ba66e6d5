/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Loads one rule, or set, or chain for each builder of expr.h, match.h, set.h and chain.h into the tables "cases" and
 * "cases_lists_1" of this network namespace; a chain has the name of the builder that it is about. What nft(8) makes of
 * them is compared by tests/integration/test_netfilter_builders.py.
 */
#include <arpa/inet.h>
#include <linux/netfilter/nf_conntrack_common.h>
#include <linux/netfilter/nf_conntrack_tuple_common.h>
#include <linux/rtnetlink.h>
#include <stdio.h>

#include "netfilter/chain.h"
#include "netfilter/match.h"
#include "netfilter/nf.h"
#include "netfilter/set.h"

static struct batch batch;
static const struct build cases = {.batch = &batch, .table = "cases"};
static const struct build lists = {.batch = &batch, .table = "cases_lists_1"};
static const struct build empty = {.batch = &batch, .table = "emptied"};
static const uint32_t five = 5, seven = 7, zero = 0, local = RTN_LOCAL;
static const uint8_t one = 1;
static struct net_plan plan;

static struct nftnl_rule *rule_of(const char *name)
{
    return rule_begin(&cases, name);
}

static void end(struct nftnl_rule *r)
{
    rule_end(&cases, r, NULL);
}

/* A rule of the chain `name` made of the statements. */
#define RULE(name, ...)                                                                                                \
    do {                                                                                                               \
        struct nftnl_rule *r = rule_of(name);                                                                          \
        __VA_ARGS__;                                                                                                   \
        end(r);                                                                                                        \
    } while (0)
/* The same, with the chain. */
#define CASE(name, ...)                                                                                                \
    do {                                                                                                               \
        chain_plain(&cases, name);                                                                                     \
        RULE(name, __VA_ARGS__);                                                                                       \
    } while (0)

static void rules(void)
{
    CASE("rule_begin", expr_counter(r));
    chain_plain(&cases, "rule_end");
    rule_end(&cases, rule_of("rule_end"), "a comment");
    chain_plain(&cases, "rule_end_user");
    rule_end_user(&cases, rule_of("rule_end_user"), "rule 1", 7);
    chain_plain(&cases, "rule_pass");
    rule_pass(&cases, rule_of("rule_pass"));
    chain_plain(&cases, "rule_drop");
    rule_drop(&cases, rule_of("rule_drop"), "why");
}

static void expressions(void)
{
    const uint16_t first = htons(80), last = htons(90), port = htons(443);
    const uint32_t mask = 0xff00, value = 0x100;
    struct in_addr address;

    inet_pton(AF_INET, "192.0.2.1", &address);
    CASE("expr_meta", expr_meta(r, NFT_META_MARK, REG_MAIN), expr_cmp(r, REG_MAIN, NFT_CMP_EQ, &five, 4));
    CASE("expr_meta_set", expr_value(r, REG_MAIN, &seven, 4), expr_meta_set(r, NFT_META_MARK, REG_MAIN));
    CASE("expr_ct", expr_ct(r, NFT_CT_MARK, REG_MAIN), expr_cmp(r, REG_MAIN, NFT_CMP_EQ, &five, 4));
    CASE("expr_ct_set", expr_value(r, REG_MAIN, &seven, 4), expr_ct_set(r, NFT_CT_MARK, REG_MAIN));
    CASE("expr_payload", match_protocol(r, IPPROTO_TCP), expr_payload(r, NFT_PAYLOAD_TRANSPORT_HEADER, 2, 2, REG_MAIN),
         expr_cmp(r, REG_MAIN, NFT_CMP_EQ, &first, 2));
    CASE("expr_bitwise", expr_meta(r, NFT_META_MARK, REG_MAIN), expr_bitwise(r, REG_MAIN, &mask, &zero, 4),
         expr_cmp(r, REG_MAIN, NFT_CMP_EQ, &value, 4));
    CASE("expr_cmp", expr_meta(r, NFT_META_MARK, REG_MAIN), expr_cmp(r, REG_MAIN, NFT_CMP_NEQ, &five, 4));
    CASE("expr_range", match_protocol(r, IPPROTO_UDP), expr_payload(r, NFT_PAYLOAD_TRANSPORT_HEADER, 0, 2, REG_MAIN),
         expr_range(r, REG_MAIN, &first, &last, 2));
    CASE("expr_lookup", expr_meta(r, NFT_META_IIFNAME, REG_MAIN), expr_lookup(r, REG_MAIN, SET_READY, false, false));
    RULE("expr_lookup", expr_meta(r, NFT_META_OIFNAME, REG_MAIN), expr_lookup(r, REG_MAIN, SET_READY, false, true));
    CASE("expr_map", expr_meta(r, NFT_META_IIFNAME, REG_MAIN), expr_map(r, REG_MAIN, MAP_PROJECT, REG_MAIN),
         expr_meta_set(r, NFT_META_MARK, REG_MAIN));
    CASE("expr_value", expr_value(r, REG_MAIN, &five, 4), expr_ct_set(r, NFT_CT_MARK, REG_MAIN));
    CASE("expr_fib_type", expr_fib_type(r, NFTA_FIB_F_SADDR, REG_MAIN), expr_cmp(r, REG_MAIN, NFT_CMP_NEQ, &local, 4));
    CASE("expr_socket", expr_socket(r, NFT_SOCKET_TRANSPARENT, REG_MAIN), expr_cmp(r, REG_MAIN, NFT_CMP_EQ, &one, 1));
    CASE("expr_counter", expr_counter(r));
    CASE("expr_counter_from", expr_counter_from(r, 3, 4000));
    CASE("expr_reject_tcp", match_protocol(r, IPPROTO_TCP), expr_reject_tcp(r));
    CASE("expr_reject_icmp", expr_reject_icmp(r));
    CASE("expr_masquerade", expr_masquerade(r));
    CASE("expr_dnat", match_family(r, NFPROTO_IPV4), match_protocol(r, IPPROTO_TCP),
         expr_value(r, REG_ADDRESS, &address, 4), expr_value(r, REG_PORT, &port, 2),
         expr_dnat(r, NFPROTO_IPV4, REG_ADDRESS, REG_PORT));
    CASE("expr_tproxy", match_family(r, NFPROTO_IPV4), match_protocol(r, IPPROTO_TCP),
         expr_value(r, REG_ADDRESS, &address, 4), expr_value(r, REG_PORT, &port, 2),
         expr_tproxy(r, NFPROTO_IPV4, REG_ADDRESS, REG_PORT));
    CASE("expr_verdict", expr_verdict(r, NF_ACCEPT, NULL));
    RULE("expr_verdict", expr_verdict(r, NF_DROP, NULL));
    RULE("expr_verdict", expr_verdict(r, NFT_RETURN, NULL));
    RULE("expr_verdict", expr_verdict(r, NFT_JUMP, "expr_counter"));
    RULE("expr_verdict", expr_verdict(r, NFT_GOTO, "expr_masquerade"));
}

static void matches(void)
{
    const struct rule_range port = {80, 80}, range = {8000, 8010}, host = {0xc0000201, 0xc0000201},
                            network = {0x0a000000, 0x0affffff}, odd = {0xc0000201, 0xc0000207};
    struct in6_addr address;

    inet_pton(AF_INET6, "2001:db8::1", &address);
    CASE("match_interface", match_interface(r, NFT_META_IIFNAME, "eth0", true));
    RULE("match_interface", match_interface(r, NFT_META_OIFNAME, "lo", false));
    CASE("match_interface_prefix", match_interface_prefix(r, NFT_META_IIFNAME, "nd", true));
    RULE("match_interface_prefix", match_interface_prefix(r, NFT_META_OIFNAME, "nd", false));
    CASE("match_interface_set", match_interface_set(r, NFT_META_IIFNAME, SET_CONFINED, false, false));
    RULE("match_interface_set", match_interface_set(r, NFT_META_OIFNAME, SET_READY, false, true));
    CASE("match_family", match_family(r, NFPROTO_IPV4));
    RULE("match_family", match_family(r, NFPROTO_IPV6));
    CASE("match_protocol", match_protocol(r, IPPROTO_ICMP));
    CASE("match_port", match_protocol(r, IPPROTO_TCP), match_port(r, MATCH_SOURCE, &port));
    RULE("match_port", match_protocol(r, IPPROTO_UDP), match_port(r, MATCH_DESTINATION, &range));
    CASE("match_icmp", match_family(r, NFPROTO_IPV4), match_protocol(r, IPPROTO_ICMP), match_icmp(r, 0, 8));
    RULE("match_icmp", match_family(r, NFPROTO_IPV4), match_protocol(r, IPPROTO_ICMP), match_icmp(r, 1, 3));
    CASE("match_network4", match_family(r, NFPROTO_IPV4), match_network4(r, MATCH_SOURCE, &host));
    RULE("match_network4", match_family(r, NFPROTO_IPV4), match_network4(r, MATCH_DESTINATION, &network));
    RULE("match_network4", match_family(r, NFPROTO_IPV4), match_network4(r, MATCH_SOURCE, &odd));
    CASE("match_network6", match_family(r, NFPROTO_IPV6), match_network6(r, MATCH_SOURCE, &address, 128));
    RULE("match_network6", match_family(r, NFPROTO_IPV6), match_network6(r, MATCH_DESTINATION, &plan.ipv6, 64));
    CASE("match_pool", match_pool(r, MATCH_SOURCE, &plan, NFPROTO_IPV4));
    RULE("match_pool", match_pool(r, MATCH_DESTINATION, &plan, NFPROTO_IPV6));
    CASE("match_error_about_own", match_error_about_own(r, NFPROTO_IPV4));
    RULE("match_error_about_own", match_error_about_own(r, NFPROTO_IPV6));
    CASE("match_own_source", match_own_source(r, NFPROTO_IPV4, true));
    RULE("match_own_source", match_own_source(r, NFPROTO_IPV6, false));
    CASE("match_ct_state",
         match_ct_state(r, (uint32_t)(NF_CT_STATE_BIT(IP_CT_ESTABLISHED) | NF_CT_STATE_BIT(IP_CT_RELATED))));
    RULE("match_ct_state", match_ct_state(r, NF_CT_STATE_INVALID_BIT));
    CASE("match_ct_status", match_ct_status(r, IPS_DST_NAT, true));
    RULE("match_ct_status", match_ct_status(r, IPS_DST_NAT, false));
    CASE("match_ct_direction", match_ct_direction(r, IP_CT_DIR_REPLY));
    RULE("match_ct_direction", match_ct_direction(r, IP_CT_DIR_ORIGINAL));
    CASE("match_mark", match_mark(r, false, 0x100, 0xff00));
    RULE("match_mark", match_mark(r, true, 0x100, 0x100));
    CASE("set_mark", set_mark(r, false, 0x100, 0xff00));
    RULE("set_mark", set_mark(r, true, 0x100, 0x100));
}

static void limits(void)
{
    CASE("expr_limit_over", expr_limit_over(r, 125000, 30000), expr_verdict(r, NF_DROP, NULL));
    CASE("expr_connections_over", expr_connections_over(r, 20), expr_verdict(r, NF_DROP, NULL));
    CASE("expr_part", expr_part(r, 64, 128, REG_MAIN), expr_meta_set(r, NFT_META_MARK, REG_MAIN));
    CASE("expr_count_in", expr_meta(r, NFT_META_MARK, REG_MAIN), expr_count_in(r, "all_counted", REG_MAIN, 20),
         expr_verdict(r, NF_DROP, NULL));
    CASE("expr_put", expr_meta(r, NFT_META_IIF, REG_QUARTER(0)), expr_meta(r, NFT_META_MARK, REG_QUARTER(1)),
         expr_put(r, SET_AT_LIMIT, REG_QUARTER(0), 10000));
    chain_plain(&cases, "rule_dispatch");
    rule_dispatch(&cases, "rule_dispatch", NFT_META_IIFNAME, MAP_LIMITED);
}

static void chains(void)
{
    chain_base(&cases, "chain_base", "filter", NF_INET_FORWARD, 3);
    chain_plain(&cases, "chain_plain");
    CASE("chain_flush", expr_counter(r));
    chain_flush(&cases, "chain_flush");
    chain_plain(&cases, "chain_delete");
    chain_delete(&cases, "chain_delete");
}

/* Slot 1 gets each element, slot 2 gets each and loses it. */
static void sets(void)
{
    const struct nf_forward forward = {.protocol = IPPROTO_UDP, .host_port = 5353, .port = 53};

    set_add_uid(&cases, 33);
    chain_plain(&lists, "in_1");
    chain_plain(&lists, "out_1");
    for (int slot = 1; slot <= 2; slot++)
        for (int step = 0; step < slot; step++) {
            enum set_change change = step ? SET_DELETE : SET_ADD;
            struct nf_forward f = forward;
            struct slot_net n;

            slot_net_init(&plan, slot, &n);
            f.host_port = (uint16_t)(f.host_port + slot);
            set_container(&cases, change, &n);
            set_lists(&lists, change, &n, "in_1", "out_1");
            set_kit_port(&cases, change, &n, 7681);
            set_confined(&cases, change, &n);
            set_relayed(&cases, change, &n);
            set_forward(&cases, change, &n, &f);
            set_project(&cases, change, &n, (uint16_t)slot);
            set_proxy(&cases, change, &n, 0x10300);
            set_own_limit(&cases, change, &n);
            set_counted(&cases, change, SET_AT_LIMIT, (uint32_t)slot, 1, 2);
            set_ready(&cases, change, &n);
            set_limited(&cases, change, &n, "expr_counter");
        }
}

/* A table that had everything once. */
static void emptied(void)
{
    struct slot_net n;

    slot_net_init(&plan, 1, &n);
    table_present(&empty);
    sets_create_lists(&empty, 2);
    chain_plain(&empty, "in_1");
    chain_plain(&empty, "out_1");
    rule_drop(&empty, rule_begin(&empty, "in_1"), NULL);
    rule_drop(&empty, rule_begin(&empty, "out_1"), NULL);
    set_lists(&empty, SET_ADD, &n, "in_1", "out_1");
    table_flush(&empty);
    set_flush(&empty, MAP_TO_CONTAINER);
    set_delete(&empty, MAP_FROM_CONTAINER);
}

int main(void)
{
    struct nl nl = {0};
    struct err *e = net_plan_init(&plan, "nd", "10.96.0.0/16", "fd6e:6f64:6564::/64");

    if (!e)
        e = nl_open(&nl, NETLINK_NETFILTER);
    if (!e) {
        batch_init(&batch, &nl);
        table_absent(&cases);
        table_present(&cases);
        table_present(&lists);
        sets_create(&cases);
        sets_create_counted(&cases, "shares_counted", "all_counted");
        sets_create_lists(&lists, 1);
        rules();
        expressions();
        matches();
        limits();
        chains();
        sets();
        emptied();
        e = batch_send(&batch);
        batch_clear(&batch);
        nl_close(&nl);
    }
    if (!e)
        return 0;
    fprintf(stderr, "%s\n", err_message(e));
    err_free(e);
    return 1;
}
