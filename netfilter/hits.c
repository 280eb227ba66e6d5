/* SPDX-License-Identifier: Apache-2.0 */
#include "netfilter/hits.h"

#include <endian.h>
#include <libnftnl/udata.h>
#include <linux/netfilter/nfnetlink.h>

#include "netfilter/expr.h"

static int compare(const void *x, const void *y)
{
    const struct hit *a = x, *b = y;

    if (a->slot != b->slot)
        return a->slot < b->slot ? -1 : 1;
    if (a->direction != b->direction)
        return a->direction < b->direction ? -1 : 1;
    return (a->id > b->id) - (a->id < b->id);
}

static int find_id(const struct nftnl_udata *attr, void *data)
{
    struct hit *hit = data;

    if (nftnl_udata_type(attr) == UDATA_RULE_ID && nftnl_udata_len(attr) == sizeof(hit->id))
        memcpy(&hit->id, nftnl_udata_get(attr), sizeof(hit->id));
    return 0;
}

static uint64_t number_of(const struct nlattr *inside, uint16_t type)
{
    const struct nlattr *a = nl_attr_inside(inside, type);

    return a && mnl_attr_validate(a, MNL_TYPE_U64) >= 0 ? be64toh(mnl_attr_get_u64(a)) : 0;
}

static int add_counter(const struct nlattr *expr, void *arg)
{
    const struct nlattr *name = nl_attr_inside(expr, NFTA_EXPR_NAME), *data = nl_attr_inside(expr, NFTA_EXPR_DATA);
    struct hit *hit = arg;

    if (!name || mnl_attr_validate(name, MNL_TYPE_NUL_STRING) < 0 || strcmp(mnl_attr_get_str(name), "counter") != 0)
        return MNL_CB_OK;
    hit->sum.packets += number_of(data, NFTA_COUNTER_PACKETS);
    hit->sum.bytes += number_of(data, NFTA_COUNTER_BYTES);
    return MNL_CB_OK;
}

/* Of a chain's name; false: no container's. */
static bool place_of(const char *chain, struct hit *hit)
{
    bool in = strncmp(chain, "in_", 3) == 0;

    if (!in && strncmp(chain, "out_", 4) != 0)
        return false;
    hit->direction = in ? RULE_INGRESS : RULE_EGRESS;
    hit->slot = (int)strtol(chain + (in ? 3 : 4), NULL, 10);
    return true;
}

/* Not by libnftnl, which makes objects of all expressions: this is done before every change. */
static int collect(const struct nlmsghdr *h, void *data)
{
    const size_t header = sizeof(struct nfgenmsg);
    const struct nlattr *chain = nl_attr(h, header, NFTA_RULE_CHAIN), *user = nl_attr(h, header, NFTA_RULE_USERDATA);
    const struct nlattr *exprs = nl_attr(h, header, NFTA_RULE_EXPRESSIONS);
    struct hits *hits = data;
    struct hit hit = {0};

    if (!chain || !user || !exprs || mnl_attr_validate(chain, MNL_TYPE_NUL_STRING) < 0 ||
        !place_of(mnl_attr_get_str(chain), &hit))
        return MNL_CB_OK;
    (void)nftnl_udata_parse(mnl_attr_get_payload(user), mnl_attr_get_payload_len(user), find_id, &hit);
    (void)mnl_attr_parse_nested(exprs, add_counter, &hit);
    if (hits->count % 64 == 0)
        hits->list = mem_grow(hits->list, hits->count + 64, sizeof(hit));
    hits->list[hits->count++] = hit;
    return MNL_CB_OK;
}

static int dump(struct nf *nf, const char *table, const char *chain, struct hits *ret)
{
    char buf[NL_MESSAGE_MAX];
    struct nlmsghdr *h =
        nl_message_nf(&nf->conntrack, buf, NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETRULE, NLM_F_DUMP, NFPROTO_INET);

    mnl_attr_put_strz(h, NFTA_RULE_TABLE, table);
    if (chain)
        mnl_attr_put_strz(h, NFTA_RULE_CHAIN, chain);
    return nl_dump(&nf->conntrack, h, collect, ret);
}

/* The kernel rules of one rule become one hit. */
static void sum_up(struct hits *h)
{
    size_t kept = 0;

    if (!h->count)
        return;
    qsort(h->list, h->count, sizeof(*h->list), compare);
    for (size_t i = 1; i < h->count; i++)
        if (compare(&h->list[i], &h->list[kept]) == 0) {
            h->list[kept].sum.packets += h->list[i].sum.packets;
            h->list[kept].sum.bytes += h->list[i].sum.bytes;
        } else {
            h->list[++kept] = h->list[i];
        }
    h->count = kept + 1;
}

int hits_collect(struct nf *nf, int slot, struct hits *ret)
{
    struct chain_names names = chain_names(slot);
    struct hits h = {0};
    int rc = 0;

    if (slot) {
        const char *table = lists_of(nf, NULL, slot).table;

        rc = dump(nf, table, names.in, &h);
        rc = rc ? rc : dump(nf, table, names.out, &h);
    } else {
        for (int i = 0; !rc && i < NF_LISTS; i++)
            rc = dump(nf, nf->lists[i], NULL, &h);
    }
    if (rc) {
        hits_clear(&h);
        return rc;
    }
    sum_up(&h);
    *ret = h;
    return 0;
}

struct nf_hits hits_of(const struct hits *h, int slot, enum rule_direction direction, uint64_t id)
{
    const struct hit key = {.slot = slot, .direction = direction, .id = id};
    const struct hit *found = h->count ? bsearch(&key, h->list, h->count, sizeof(key), compare) : NULL;

    return found ? found->sum : (struct nf_hits){0};
}

void hits_clear(struct hits *h)
{
    free(h->list);
    *h = (struct hits){0};
}
