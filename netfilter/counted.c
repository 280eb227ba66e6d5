/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Each connection takes an entry of the host's connection table, and when that is full nobody gets a new one. So what
 * containers may take of it is counted here, by a packet that is about to make an entry: it has passed all rules, and
 * when it is dropped there is none.
 *
 *   counted_from, counted_to   the container's share of connections that it begins, and as much of those to it
 *   counted_all                what all containers have together
 *
 * These chains are in the last of the tables of lists, whose base chains are behind all others and have to look at new
 * connections only (lists.c); so the packets of a connection that is there cost nothing.
 *
 * The kernel keeps the connections that it counts in a list, which it walks through to see which of them have ended. A
 * list of ten thousand takes a millisecond. So the count is split into parts by a hash of the addresses and ports, each
 * an element of a set with a list of its own; that it is spread evenly is not exact, and need not be. When a part is
 * full its key is in another set for a moment, in which packets are dropped without being counted: a flood costs no
 * more than a lookup.
 *
 * A container with a limit of its own (limit.c) has that one instead of a share.
 */
#include "netfilter/nf.h"

#include <errno.h>
#include <linux/netfilter/nf_conntrack_common.h>
#include <linux/netfilter/nfnetlink.h>

#include "base/failpoint.h"
#include "base/fd.h"
#include "base/str.h"
#include "netfilter/chain.h"
#include "netfilter/match.h"
#include "netfilter/set.h"

#define TABLE_MAX_PATH "/proc/sys/net/netfilter/nf_conntrack_max"
#define TABLE_COUNT_PATH "/proc/sys/net/netfilter/nf_conntrack_count"

enum {
    PART_LEAST = 128, /* connections; a smaller part would be filled by chance */
    SLACK = 8,        /* and each of a share gets an eighth more, for the same reason */
    SHARE_PARTS_MAX = 256,
    ALL_PARTS_MAX = 1024,
    AT_LIMIT_MS = 20000,
    TABLE_MAX_UNKNOWN = 65536, /* conntrack is not loaded yet: its rules load it */
};

static int64_t read_number(const char *path)
{
    autofree char *text = NULL;

    err_ignore(fd_read_file(path, 64, &text, NULL));
    return text ? strtol(text, NULL, 10) : 0;
}

int64_t counted_entries(void)
{
    return read_number(TABLE_COUNT_PATH);
}

static struct nf_parts split(int64_t connections, uint32_t parts_max)
{
    int64_t parts = MIN(MAX(connections / PART_LEAST, INT64_C(2)), (int64_t)parts_max);

    return (struct nf_parts){.count = (uint32_t)parts, .each = (uint32_t)MAX(connections / parts, INT64_C(8))};
}

void counted_measure(struct nf *nf)
{
    int64_t most = read_number(TABLE_MAX_PATH);

    nf->table_max = most;
    most = most > 0 ? most : TABLE_MAX_UNKNOWN;
    nf->share = split(most * nf->share_percent / 100, SHARE_PARTS_MAX);
    nf->share.each += nf->share.each / SLACK;
    nf->all = split(most * (100 - nf->reserve_percent) / 100, ALL_PARTS_MAX);
    snprintf(nf->share_set, sizeof(nf->share_set), "shares_%ux%u", nf->share.count, nf->share.each);
    snprintf(nf->all_set, sizeof(nf->all_set), "everyone_%ux%u", nf->all.count, nf->all.each);
}

/* Interface and part, as the key of the sets; those of the two directions do not meet. By its index and not its name: a
 * link that is made anew has nothing of the one before. */
static void put_key(const struct nf *nf, struct nftnl_rule *r, bool from)
{
    expr_meta(r, from ? NFT_META_IIF : NFT_META_OIF, REG_QUARTER(0));
    expr_part(r, nf->share.count, from ? 0 : nf->share.count, REG_QUARTER(1));
}

static void share(const struct nf *nf, const struct build *b, bool from)
{
    static const char *const words[] = {"too many connections to it", "too many connections of it"};
    const char *name = from ? "counted_from" : "counted_to";
    const uint32_t direction = from ? NF_BEGUN_BY_IT : NF_BEGUN_TO_IT;
    struct nftnl_rule *r;

    r = rule_begin(b, name);
    put_key(nf, r, from);
    expr_lookup(r, REG_QUARTER(0), SET_FULL, false, false);
    rule_drop(b, r, words[from]);
    r = rule_begin(b, name);
    match_interface_set(r, from ? NFT_META_IIFNAME : NFT_META_OIFNAME, SET_OWN_LIMIT, false, true);
    put_key(nf, r, from);
    expr_count_in(r, nf->share_set, REG_QUARTER(0), nf->share.each);
    expr_put(r, SET_FULL, REG_QUARTER(0), NF_FULL_MS);
    expr_value(r, REG_QUARTER(1), &direction, sizeof(direction));
    expr_put(r, SET_AT_LIMIT, REG_QUARTER(0), AT_LIMIT_MS);
    rule_drop(b, r, words[from]);
}

void counted_begin(const struct nf *nf, const struct build *b, const char *name, bool from)
{
    struct nftnl_rule *r = rule_begin(b, name);

    match_ct_status(r, IPS_CONFIRMED, false); /* else it has its entry */
    match_interface_prefix(r, from ? NFT_META_IIFNAME : NFT_META_OIFNAME, nf->plan.prefix, true);
    expr_verdict(r, NFT_JUMP, from ? "counted_from" : "counted_to");
    rule_end(b, r, NULL);
}

/* Failpoint "nf.counted": a kernel that cannot count connections. */
static void damage(struct nftnl_rule *r)
{
    struct err *e = failpoint("nf.counted");

    if (e)
        expr_meta(r, UINT32_MAX, REG_MAIN);
    err_free(e);
}

void counted_chains(const struct nf *nf, const struct build *b)
{
    struct nftnl_rule *r;

    sets_create_counted(b, nf->share_set, nf->all_set);
    chain_plain(b, "counted_all");
    chain_plain(b, "counted_from");
    chain_plain(b, "counted_to");
    if (nf->uncounted)
        return;
    r = rule_begin(b, "counted_all");
    expr_part(r, nf->all.count, 0, REG_MAIN);
    expr_count_in(r, nf->all_set, REG_MAIN, nf->all.each);
    damage(r);
    rule_drop(b, r, "too many connections of all containers");
    share(nf, b, true);
    r = rule_begin(b, "counted_from");
    expr_verdict(r, NFT_GOTO, "counted_all");
    rule_end(b, r, NULL);
    share(nf, b, false);
    r = rule_begin(b, "counted_to");
    match_interface_prefix(r, NFT_META_IIFNAME, nf->plan.prefix, false); /* else it is counted already */
    expr_verdict(r, NFT_GOTO, "counted_all");
    rule_end(b, r, NULL);
}

void counted_forget(const struct nf *nf, const struct build *b, const struct slot_net *n)
{
    const struct build of = lists_of(nf, b, NF_COUNTED_LISTS);
    const struct {
        const char *set;
        uint32_t first, last;
    } rows[] = {{nf->share_set, 0, 2 * nf->share.count - 1},
                {SET_FULL, 0, 2 * nf->share.count - 1},
                {SET_AT_LIMIT, NF_BEGUN_BY_IT, NF_BEGUN_TO_IT}};
    unsigned index = if_nametoindex(n->ifname);

    for (size_t i = 0; index && i < ARRAY_LEN(rows); i++)
        for (int change = SET_ADD; change <= SET_DELETE; change++) /* added, so that the deletion cannot fail */
            set_counted(&of, (enum set_change)change, rows[i].set, index, rows[i].first, rows[i].last);
}

struct at_limit {
    const struct nf *nf;
    struct nf_connections *ret;
};

static void see_key(const struct nf *nf, const struct nlattr *key, struct nf_connections *ret)
{
    const struct nlattr *value = nl_attr_inside(key, NFTA_DATA_VALUE);
    char name[IFNAMSIZ];
    uint32_t parts[2]; /* of the key: interface, direction */
    int slot;

    if (!value || mnl_attr_get_payload_len(value) != sizeof(parts))
        return;
    memcpy(parts, mnl_attr_get_payload(value), sizeof(parts));
    slot = if_indextoname(parts[0], name) ? net_plan_slot_of(&nf->plan, name) : 0;
    if (!slot)
        return;
    for (size_t i = 0; i < ret->at_limit_count; i++)
        if (ret->at_limit[i].slot == slot) {
            ret->at_limit[i].directions |= parts[1];
            return;
        }
    if (ret->at_limit_count < NF_AT_LIMIT_MAX)
        ret->at_limit[ret->at_limit_count++] = (struct nf_at_limit){slot, parts[1]};
}

static int see_element(const struct nlattr *element, void *data)
{
    const struct at_limit *a = data;

    see_key(a->nf, nl_attr_inside(element, NFTA_SET_ELEM_KEY), a->ret);
    return MNL_CB_OK;
}

static int see_elements(const struct nlmsghdr *h, void *data)
{
    const struct nlattr *list = nl_attr(h, sizeof(struct nfgenmsg), NFTA_SET_ELEM_LIST_ELEMENTS);

    return list ? mnl_attr_parse_nested(list, see_element, data) : MNL_CB_OK;
}

static int list_at_limit(struct nf *nf, struct nf_connections *ret)
{
    char buf[NL_MESSAGE_MAX];
    struct nlmsghdr *h =
        nl_message_nf(&nf->conntrack, buf, NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETSETELEM, NLM_F_DUMP, NFPROTO_INET);
    struct at_limit a = {nf, ret};

    mnl_attr_put_strz(h, NFTA_SET_ELEM_LIST_TABLE, nf->lists[NF_COUNTED_LISTS]);
    mnl_attr_put_strz(h, NFTA_SET_ELEM_LIST_SET, SET_AT_LIMIT);
    return nl_dump(&nf->conntrack, h, see_elements, &a);
}

struct err *nf_connections(struct nf *nf, struct nf_connections *ret)
{
    struct nf_connections found = {.count = counted_entries(),
                                   .max = read_number(TABLE_MAX_PATH),
                                   .share = (int64_t)nf->share.count * nf->share.each,
                                   .all = (int64_t)nf->all.count * nf->all.each};
    int rc;

    found.uncounted = nf->uncounted;
    found.resized = found.max != nf->table_max;
    rc = list_at_limit(nf, &found);
    if (rc && rc != ENOENT) /* the table is gone: it is being put right */
        return err_errno(rc, "cannot see which containers have too many connections");
    *ret = found;
    return NULL;
}

struct err *nf_connections_tidy(struct nf *nf, int slot)
{
    struct slot_net n;

    slot_net_init(&nf->plan, slot, &n);
    return conntrack_flush(nf, &n, CONNTRACK_SILENT, NULL, 0);
}
