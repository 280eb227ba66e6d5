/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Filling our tables anew while they stay. A base chain that is made anew is asked by the kernel before the one that it
 * replaces, and each of the two by the generation of rules of its moment: a packet that is between them when the
 * generation changes would meet neither. So chains and sets stay, their contents are replaced in one transaction, and
 * what is not wanted any more goes.
 */
#include "netfilter/refill.h"

#include <errno.h>
#include <linux/netfilter/nfnetlink.h>

#include "base/str.h"
#include "netfilter/chain.h"
#include "netfilter/nf.h"
#include "netfilter/set.h"

#define HEADER sizeof(struct nfgenmsg)
#define ATTEMPTS 8 /* a dump that others disturb is begun again */

struct thing {
    struct nlmsghdr *message; /* as the kernel describes it */
    const char *table, *name; /* inside the message */
    bool wanted;
};

static bool is_chain(const struct nlmsghdr *h)
{
    return NFNL_MSG_TYPE(h->nlmsg_type) == NFT_MSG_NEWCHAIN;
}

static const char *text(const struct nlmsghdr *h, uint16_t type)
{
    const struct nlattr *a = nl_attr(h, HEADER, type);

    return a && mnl_attr_validate(a, MNL_TYPE_NUL_STRING) >= 0 ? mnl_attr_get_str(a) : "";
}

/* Chains and sets number their attributes each in an enumeration of their own. */
static const char *table_of(const struct nlmsghdr *h)
{
    return is_chain(h) ? text(h, NFTA_CHAIN_TABLE) : text(h, NFTA_SET_TABLE);
}

static const char *name_of(const struct nlmsghdr *h)
{
    return is_chain(h) ? text(h, NFTA_CHAIN_NAME) : text(h, NFTA_SET_NAME);
}

static struct thing thing_of(struct nlmsghdr *h)
{
    return (struct thing){.message = h, .table = table_of(h), .name = name_of(h)};
}

static int compare(const void *x, const void *y)
{
    const struct thing *a = x, *b = y;
    int rc = is_chain(a->message) - is_chain(b->message);

    rc = rc ? rc : strcmp(a->table, b->table);
    return rc ? rc : strcmp(a->name, b->name);
}

struct reading {
    const struct nf *nf;
    struct refill *refill;
};

static int collect(const struct nlmsghdr *h, void *data)
{
    const struct reading *reading = data;
    struct refill *r = reading->refill;
    struct nlmsghdr *copy;

    if (!lists_own(reading->nf->table, table_of(h)))
        return MNL_CB_OK;
    if (!is_chain(h) && nl_attr_u32(h, HEADER, NFTA_SET_FLAGS) & htonl(NFT_SET_ANONYMOUS))
        return MNL_CB_OK; /* goes with the rule that it belongs to */
    copy = mem_alloc(1, h->nlmsg_len);
    memcpy(copy, h, h->nlmsg_len);
    if (r->count % 64 == 0)
        r->things = mem_grow(r->things, r->count + 64, sizeof(*r->things));
    r->things[r->count++] = thing_of(copy);
    return MNL_CB_OK;
}

static int dump(struct nf *nf, uint16_t what, struct refill *r)
{
    char buf[NL_MESSAGE_MAX];
    struct nlmsghdr *h = nl_message_nf(&nf->conntrack, buf, NFNL_SUBSYS_NFTABLES << 8 | what, NLM_F_DUMP, NFPROTO_INET);
    struct reading reading = {nf, r};

    return nl_dump(&nf->conntrack, h, collect, &reading);
}

int refill_read(struct nf *nf, struct refill *ret)
{
    int rc = EINTR;

    for (int i = 0; rc == EINTR && i < ATTEMPTS; i++) {
        refill_clear(ret);
        rc = dump(nf, NFT_MSG_GETCHAIN, ret);
        rc = rc ? rc : dump(nf, NFT_MSG_GETSET, ret);
    }
    if (ret->count)
        qsort(ret->things, ret->count, sizeof(*ret->things), compare);
    return rc;
}

/* Its elements are not ours: what they have counted goes on. */
static bool is_of_packets(const struct nlmsghdr *set)
{
    return nl_attr_u32(set, HEADER, NFTA_SET_FLAGS) & htonl(NFT_SET_EVAL);
}

static void empty_table(const struct build *b)
{
    table_present(b);
    table_flush(b);
}

void refill_begin(const struct nf *nf, const struct refill *r, const struct build *b)
{
    struct build of = *b;

    empty_table(b);
    for (int i = 0; i < NF_LISTS; i++) {
        of = lists_of(nf, b, i);
        empty_table(&of);
    }
    for (size_t i = 0; i < r->count; i++) {
        of.table = r->things[i].table;
        if (!is_chain(r->things[i].message) && !is_of_packets(r->things[i].message))
            set_flush(&of, r->things[i].name);
    }
}

/* A set's kind, or where a chain hangs, cannot be changed. What the kernel does not say counts as 0. */
static bool same(const struct nlmsghdr *a, const struct nlmsghdr *b)
{
    static const uint16_t of_set[] = {NFTA_SET_FLAGS, NFTA_SET_KEY_TYPE, NFTA_SET_KEY_LEN, NFTA_SET_DATA_TYPE,
                                      NFTA_SET_DATA_LEN};
    const struct nlattr *x, *y;
    bool equal = true;

    if (!is_chain(a)) {
        for (size_t i = 0; i < ARRAY_LEN(of_set); i++)
            equal = equal && nl_attr_u32(a, HEADER, of_set[i]) == nl_attr_u32(b, HEADER, of_set[i]);
        return equal;
    }
    x = nl_attr(a, HEADER, NFTA_CHAIN_HOOK);
    y = nl_attr(b, HEADER, NFTA_CHAIN_HOOK);
    if (!x || !y)
        return !x && !y;
    return str_eq(text(a, NFTA_CHAIN_TYPE), text(b, NFTA_CHAIN_TYPE)) &&
           nl_attr_u32_inside(x, NFTA_HOOK_HOOKNUM) == nl_attr_u32_inside(y, NFTA_HOOK_HOOKNUM) &&
           nl_attr_u32_inside(x, NFTA_HOOK_PRIORITY) == nl_attr_u32_inside(y, NFTA_HOOK_PRIORITY);
}

/* Marks what the batch makes; false when something is there as another thing. */
static bool mark_wanted(struct refill *r, const struct batch *batch)
{
    int left = (int)batch->len;

    for (struct nlmsghdr *h = (struct nlmsghdr *)batch->data; mnl_nlmsg_ok(h, left); h = mnl_nlmsg_next(h, &left)) {
        struct thing key, *found;

        if (NFNL_SUBSYS_ID(h->nlmsg_type) != NFNL_SUBSYS_NFTABLES ||
            (!is_chain(h) && NFNL_MSG_TYPE(h->nlmsg_type) != NFT_MSG_NEWSET))
            continue;
        key = thing_of(h);
        found = r->count ? bsearch(&key, r->things, r->count, sizeof(key), compare) : NULL;
        if (found && !same(found->message, h))
            return false;
        if (found)
            found->wanted = true;
    }
    return true;
}

bool refill_end(struct refill *r, const struct build *b)
{
    struct build of = *b;

    if (!mark_wanted(r, b->batch))
        return false;
    for (size_t i = 0; i < r->count; i++) {
        of.table = r->things[i].table;
        if (r->things[i].wanted)
            continue;
        if (is_chain(r->things[i].message))
            chain_delete(&of, r->things[i].name);
        else
            set_delete(&of, r->things[i].name);
    }
    return true;
}

void refill_clear(struct refill *r)
{
    for (size_t i = 0; i < r->count; i++)
        free(r->things[i].message);
    free(r->things);
    *r = (struct refill){0};
}
