/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The chains with the containers' rules, spread over tables of their own by slot. At each change of rules the kernel
 * walks through everything that can be reached in the table that is changed, on each way that leads there (in a list
 * for packets that are forwarded and once more for those of this host). With all rules in one table that is what a
 * change costs; so it is an eighth. The price is a base chain for each table and hook that every packet passes.
 *
 * The table proper decides first. What it leaves to the lists it marks, and only that is looked at here; "allow"
 * returns to the base chain, so that a packet from one container to another meets both lists.
 */
#include "netfilter/chain.h"
#include "netfilter/match.h"
#include "netfilter/nf.h"
#include "netfilter/set.h"

#include <linux/netfilter_ipv4.h>

#include "base/str.h"

#define AFTER_TABLE (NF_IP_PRI_FILTER + 1)

void lists_name(char name[NF_LISTS_NAME_MAX], const char *table, int which)
{
    snprintf(name, NF_LISTS_NAME_MAX, "%.60s_lists_%d", table, which);
}

bool lists_own(const char *table, const char *name)
{
    char list[NF_LISTS_NAME_MAX];

    for (int i = 0; i < NF_LISTS; i++) {
        lists_name(list, table, i);
        if (str_eq(list, name))
            return true;
    }
    return str_eq(table, name);
}

struct build lists_of(const struct nf *nf, const struct build *b, int slot)
{
    struct build of = b ? *b : (struct build){0};

    of.table = nf->lists[slot % NF_LISTS];
    return of;
}

static void dispatch(const struct build *b, const char *name, uint32_t key, const char *map)
{
    struct nftnl_rule *r = rule_begin(b, name);

    match_mark(r, false, NF_MARK_ASKED, NF_MARK_ASKED);
    match_interface_set(r, key, map, true, false);
    rule_end(b, r, NULL);
}

/* Of the table that is the last and counts what has passed all of them. */
static void last_base(const struct nf *nf, const struct build *b, const char *name, uint32_t hook, bool to)
{
    struct nftnl_rule *r;

    chain_base(b, name, "filter", hook, AFTER_TABLE + 1);
    r = rule_begin(b, name);
    match_mark(r, false, 0, NF_MARK_ASKED | NF_MARK_COUNTED);
    rule_pass(b, r);
    dispatch(b, name, NFT_META_IIFNAME, MAP_FROM_CONTAINER);
    if (to)
        dispatch(b, name, NFT_META_OIFNAME, MAP_TO_CONTAINER);
    counted_begin(nf, b, name, true);
    if (to)
        counted_begin(nf, b, name, false);
}

static void base(const struct build *b, const char *name, uint32_t hook, bool from, bool to)
{
    struct nftnl_rule *r;

    chain_base(b, name, "filter", hook, AFTER_TABLE);
    r = rule_begin(b, name);
    match_mark(r, false, 0, NF_MARK_ASKED);
    rule_pass(b, r);
    if (from)
        rule_dispatch(b, name, NFT_META_IIFNAME, MAP_FROM_CONTAINER);
    if (to)
        rule_dispatch(b, name, NFT_META_OIFNAME, MAP_TO_CONTAINER);
}

void lists_create(const struct nf *nf, const struct build *b)
{
    for (int i = 0; i < NF_LISTS; i++) {
        const struct build of = lists_of(nf, b, i);

        table_present(&of);
        sets_create_lists(&of, i);
        if (i == NF_COUNTED_LISTS) {
            counted_chains(nf, &of);
            last_base(nf, &of, "lists_input", NF_INET_LOCAL_IN, false);
            last_base(nf, &of, "lists_routed", NF_INET_FORWARD, true);
        } else {
            base(&of, "lists_input", NF_INET_LOCAL_IN, true, false);
            base(&of, "lists_routed", NF_INET_FORWARD, true, true);
        }
        base(&of, "lists_output", NF_INET_LOCAL_OUT, false, true);
    }
}

void lists_delete(const struct nf *nf, const struct build *b)
{
    for (int i = 0; i < NF_LISTS; i++) {
        const struct build of = lists_of(nf, b, i);

        table_absent(&of);
    }
}
