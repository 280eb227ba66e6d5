/* SPDX-License-Identifier: Apache-2.0 */
#include "netfilter/chain.h"

#include <libnftnl/chain.h>
#include <libnftnl/table.h>

static void table_message(const struct build *b, uint16_t type, uint16_t flags)
{
    struct nftnl_table *t = nftnl_table_alloc();
    struct nlmsghdr *h;

    if (!t)
        abort();
    nftnl_table_set_str(t, NFTNL_TABLE_NAME, b->table);
    nftnl_table_set_u32(t, NFTNL_TABLE_FAMILY, NFPROTO_INET);
    if (type == NFT_MSG_NEWTABLE)
        nftnl_table_set_u32(t, NFTNL_TABLE_FLAGS, 0); /* awake, whoever sent it to sleep */
    h = batch_begin(b->batch, type, flags, "the table");
    nftnl_table_nlmsg_build_payload(h, t);
    batch_end(b->batch, h);
    nftnl_table_free(t);
}

void table_present(const struct build *b)
{
    table_message(b, NFT_MSG_NEWTABLE, NLM_F_CREATE);
}

void table_absent(const struct build *b)
{
    /* Added first, so that the deletion cannot fail for want of a table. */
    table_message(b, NFT_MSG_NEWTABLE, NLM_F_CREATE);
    table_message(b, NFT_MSG_DELTABLE, 0);
}

/* A deletion that names neither chain nor rule takes all of the table. */
void table_flush(const struct build *b)
{
    struct nlmsghdr *h = batch_begin(b->batch, NFT_MSG_DELRULE, 0, "the rules of the table");

    mnl_attr_put_strz(h, NFTA_RULE_TABLE, b->table);
    batch_end(b->batch, h);
}

static struct nftnl_chain *chain_named(const struct build *b, const char *name)
{
    struct nftnl_chain *c = nftnl_chain_alloc();

    if (!c)
        abort();
    nftnl_chain_set_str(c, NFTNL_CHAIN_TABLE, b->table);
    nftnl_chain_set_str(c, NFTNL_CHAIN_NAME, name);
    nftnl_chain_set_u32(c, NFTNL_CHAIN_FAMILY, NFPROTO_INET);
    return c;
}

/* Takes over c. */
static void message(const struct build *b, uint16_t type, struct nftnl_chain *c)
{
    struct nlmsghdr *h = batch_begin(b->batch, type, type == NFT_MSG_NEWCHAIN ? NLM_F_CREATE : 0, "a chain");

    nftnl_chain_nlmsg_build_payload(h, c);
    batch_end(b->batch, h);
    nftnl_chain_free(c);
}

void chain_base(const struct build *b, const char *name, const char *type, uint32_t hook, int priority)
{
    struct nftnl_chain *c = chain_named(b, name);

    nftnl_chain_set_str(c, NFTNL_CHAIN_TYPE, type);
    nftnl_chain_set_u32(c, NFTNL_CHAIN_HOOKNUM, hook);
    nftnl_chain_set_s32(c, NFTNL_CHAIN_PRIO, priority);
    nftnl_chain_set_u32(c, NFTNL_CHAIN_POLICY, NF_ACCEPT);
    message(b, NFT_MSG_NEWCHAIN, c);
}

void chain_plain(const struct build *b, const char *name)
{
    message(b, NFT_MSG_NEWCHAIN, chain_named(b, name));
}

void chain_delete(const struct build *b, const char *name)
{
    message(b, NFT_MSG_DELCHAIN, chain_named(b, name));
}

/* A deletion that names no rule takes all of the chain. */
void chain_flush(const struct build *b, const char *name)
{
    struct nftnl_rule *r = rule_begin(b, name);
    struct nlmsghdr *h = batch_begin(b->batch, NFT_MSG_DELRULE, 0, "the rules of a chain");

    nftnl_rule_nlmsg_build_payload(h, r);
    batch_end(b->batch, h);
    nftnl_rule_free(r);
}
