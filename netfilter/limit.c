/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Limits of a container that the table keeps: what it sends, in chain up_<slot>, and how many connections it has, in
 * conns_<slot> beside its rules (lists.c). Both chains are there only with a limit, and are left alone when rules
 * change: the kernel's count of connections begins anew with the rule that counts. What goes to the container is shaped
 * by its link, see shape.c.
 */
#include "netfilter/chain.h"
#include "netfilter/match.h"
#include "netfilter/nf.h"
#include "netfilter/set.h"

/* To this the kernel adds what the rate allows in a second (net/netfilter/nft_limit.c): so much may be sent at once
 * after a silence. */
#define BURST(rate) MAX((rate) / 10, UINT64_C(131072))

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

void limit_begin(const struct nf *nf, const struct build *b, const struct build *lists, const struct slot_net *n,
                 const struct nf_limits *limits)
{
    const struct nf_limits *old = &nf->known[n->slot].limits;
    struct limit_names names = limit_names(n->slot);
    struct nftnl_rule *r;

    if (limits->up && limits->up != old->up)
        up_begin(b, n, limits->up);
    if (!limits->connections || limits->connections == old->connections)
        return;
    chain_plain(lists, names.conns);
    chain_flush(lists, names.conns);
    r = rule_begin(lists, names.conns);
    expr_connections_over(r, limits->connections);
    drop_over(lists, r, "too many connections");
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
    struct limit_names names = limit_names(n->slot);

    if (!limits->up && old->up)
        up_end(b, n);
    if (limits->connections || !old->connections)
        return;
    chain_plain(lists, names.conns); /* so that the deletion cannot fail */
    chain_flush(lists, names.conns);
    chain_delete(lists, names.conns);
}
