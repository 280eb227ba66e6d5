/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Limits of a container that the table keeps: what it sends, in chain up_<slot>, and how many connections it has, in
 * conns_<slot> beside its rules (lists.c). Both chains are there only with a limit, and are left alone when rules
 * change: the kernel's count of connections begins anew with the rule that counts. What goes to the container is shaped
 * by its link, see shape.c.
 */
#include <linux/netfilter/nf_conntrack_common.h>

#include "netfilter/chain.h"
#include "netfilter/match.h"
#include "netfilter/nf.h"
#include "netfilter/set.h"

/* To this the kernel adds what the rate allows in a second (net/netfilter/nft_limit.c): so much may be sent at once
 * after a silence. */
#define BURST(rate) MAX((rate) / 10, UINT64_C(131072))

/* Connections: from this limit on they are counted in parts; from this one on what is over it closes the door for a
 * moment. */
enum { LIMIT_PARTS = 64, PARTS_FROM = 4096, GATE_FROM = 64 };

struct limit_names {
    char up[16], conns[16];
};

static struct limit_names limit_names(int slot)
{
    struct limit_names n;

    snprintf(n.up, sizeof(n.up), "up_%d", slot);
    snprintf(n.conns, sizeof(n.conns), "conns_%d", slot);
    return n;
}

static void drop_over(const struct build *b, struct nftnl_rule *r, const char *why)
{
    expr_counter(r);
    expr_verdict(r, NF_DROP, NULL);
    rule_end(b, r, why);
}

static void up_begin(const struct build *b, const struct slot_net *n, uint64_t rate)
{
    struct limit_names names = limit_names(n->slot);
    struct nftnl_rule *r;

    chain_plain(b, names.up);
    chain_flush(b, names.up);
    r = rule_begin(b, names.up);
    expr_limit_over(r, rate, (uint32_t)MIN(BURST(rate), (uint64_t)UINT32_MAX));
    drop_over(b, r, "sends too much");
    set_limited(b, SET_ADD, n, names.up);
}

static void up_end(const struct build *b, const struct slot_net *n)
{
    struct limit_names names = limit_names(n->slot);

    chain_plain(b, names.up); /* so that the deletions cannot fail */
    set_limited(b, SET_ADD, n, names.up);
    set_limited(b, SET_DELETE, n, names.up);
    chain_flush(b, names.up);
    chain_delete(b, names.up);
}

/* Slot and part, and the limit: what was counted for another limit is not mistaken for this one's. */
static void put_key(struct nftnl_rule *r, int slot, uint32_t parts, uint32_t limit)
{
    const uint32_t first = (uint32_t)slot * LIMIT_PARTS;

    if (parts > 1)
        expr_part(r, parts, first, REG_QUARTER(0));
    else
        expr_value(r, REG_QUARTER(0), &first, sizeof(first));
    expr_value(r, REG_QUARTER(1), &limit, sizeof(limit));
}

/* A large number is counted in parts, and a flood above the limit not at all for a moment: counted.c says why. */
static void connections_begin(const struct build *lists, const char *chain, int slot, uint32_t limit)
{
    uint32_t parts = limit >= PARTS_FROM ? LIMIT_PARTS : 1;
    struct nftnl_rule *r;

    chain_plain(lists, chain);
    chain_flush(lists, chain);
    r = rule_begin(lists, chain); /* has an entry: it is counted */
    match_ct_status(r, IPS_CONFIRMED, true);
    expr_verdict(r, NFT_RETURN, NULL);
    rule_end(lists, r, NULL);
    if (limit >= GATE_FROM) {
        r = rule_begin(lists, chain);
        put_key(r, slot, parts, limit);
        expr_lookup(r, REG_QUARTER(0), SET_OWN_FULL, false, false);
        drop_over(lists, r, "too many connections");
    }
    r = rule_begin(lists, chain);
    put_key(r, slot, parts, limit);
    if (parts > 1)
        expr_count_in(r, SET_OWN_PARTS, REG_QUARTER(0), limit / parts);
    else
        expr_connections_over(r, limit);
    if (limit >= GATE_FROM)
        expr_put(r, SET_OWN_FULL, REG_QUARTER(0), NF_FULL_MS);
    drop_over(lists, r, "too many connections");
}

void limit_begin(const struct nf *nf, const struct build *b, const struct build *lists, const struct slot_net *n,
                 const struct nf_limits *limits)
{
    const struct nf_limits *old = &nf->known[n->slot].limits;
    const struct build counted = lists_of(nf, b, NF_COUNTED_LISTS);
    struct limit_names names = limit_names(n->slot);

    if (limits->up && limits->up != old->up)
        up_begin(b, n, limits->up);
    if (!limits->connections || limits->connections == old->connections)
        return;
    set_own_limit(&counted, SET_ADD, n);
    connections_begin(lists, names.conns, n->slot, limits->connections);
}

void limit_connections(const struct build *lists, const char *chain, int slot, const struct nf_limits *limits)
{
    struct limit_names names = limit_names(slot);
    struct nftnl_rule *r;

    if (!limits->connections)
        return;
    r = rule_begin(lists, chain);
    expr_verdict(r, NFT_JUMP, names.conns);
    rule_end(lists, r, NULL);
}

void limit_end(const struct nf *nf, const struct build *b, const struct build *lists, const struct slot_net *n,
               const struct nf_limits *limits)
{
    const struct nf_limits *old = &nf->known[n->slot].limits;
    const struct build counted = lists_of(nf, b, NF_COUNTED_LISTS);
    struct limit_names names = limit_names(n->slot);

    if (!limits->up && old->up)
        up_end(b, n);
    if (limits->connections || !old->connections)
        return;
    set_own_limit(&counted, SET_ADD, n); /* likewise */
    set_own_limit(&counted, SET_DELETE, n);
    chain_plain(lists, names.conns); /* so that the deletion cannot fail */
    chain_flush(lists, names.conns);
    chain_delete(lists, names.conns);
}
