/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Forgets connections: those of a container, so that the next owner of its addresses inherits none, and those that a
 * change has left on a way they should not go any more. A dump walks the whole
 * hash table, some milliseconds however few the entries. So a small table is read once and filtered here; a large one
 * is read four times with a filter that the kernel applies. A kernel without such filters gives everything, and
 * the check here still holds.
 */
#include "netfilter/nf.h"

#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_conntrack_common.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>

#include "base/fd.h"

#define CONNTRACK(message) (NFNL_SUBSYS_CTNETLINK << 8 | (message))
#define FILTER_BY_SOURCE 1u /* bit of CTA_FILTER_*_FLAGS: the tuple's source address counts */
#define SMALL_TABLE 4096

/* A deletion to come: then len bytes of attributes. */
struct record {
    uint32_t family, len;
};

struct doomed {
    const struct slot_net *n;
    const struct net_plan *plan;
    enum conntrack_which which;
    const struct nf_forward *forwards;
    size_t forward_count;
    uint8_t *data;
    size_t len;
};

/* Outgoing connections have the container as their source, incoming ones answer from it. */
static bool is_from(const struct nlmsghdr *h, uint16_t tuple, const struct slot_net *n)
{
    const struct nlattr *ip = nl_attr_inside(nl_attr(h, sizeof(struct nfgenmsg), tuple), CTA_TUPLE_IP);
    const struct nlattr *v4 = nl_attr_inside(ip, CTA_IP_V4_SRC), *v6 = nl_attr_inside(ip, CTA_IP_V6_SRC);

    return (v4 && memcmp(mnl_attr_get_payload(v4), &n->addr4, sizeof(n->addr4)) == 0) ||
           (v6 && memcmp(mnl_attr_get_payload(v6), &n->addr6, sizeof(n->addr6)) == 0);
}

/* Whether it was first sent to the host's port of one of the forwards. */
static bool is_to_forward(const struct nlmsghdr *h, const struct doomed *d)
{
    const struct nlattr *proto = nl_attr_inside(nl_attr(h, sizeof(struct nfgenmsg), CTA_TUPLE_ORIG), CTA_TUPLE_PROTO);
    const struct nlattr *number = nl_attr_inside(proto, CTA_PROTO_NUM),
                        *port = nl_attr_inside(proto, CTA_PROTO_DST_PORT);

    for (size_t i = 0; number && port && i < d->forward_count; i++)
        if (d->forwards[i].protocol == mnl_attr_get_u8(number) &&
            d->forwards[i].host_port == ntohs(mnl_attr_get_u16(port)))
            return true;
    return false;
}

static bool is_translated(const struct nlmsghdr *h)
{
    const struct nlattr *status = nl_attr(h, sizeof(struct nfgenmsg), CTA_STATUS);

    return status && ntohl(mnl_attr_get_u32(status)) & IPS_NAT_MASK;
}

static bool is_answered(const struct nlmsghdr *h)
{
    const struct nlattr *status = nl_attr(h, sizeof(struct nfgenmsg), CTA_STATUS);

    return status && ntohl(mnl_attr_get_u32(status)) & IPS_SEEN_REPLY;
}

/* The tuple's source is any container's address. */
static bool is_from_any(const struct nlmsghdr *h, uint16_t tuple, const struct net_plan *plan)
{
    const struct nlattr *ip = nl_attr_inside(nl_attr(h, sizeof(struct nfgenmsg), tuple), CTA_TUPLE_IP);
    const struct nlattr *v4 = nl_attr_inside(ip, CTA_IP_V4_SRC), *v6 = nl_attr_inside(ip, CTA_IP_V6_SRC);

    return (v4 && net_plan_slot_of_address(plan, AF_INET, mnl_attr_get_payload(v4))) ||
           (v6 && net_plan_slot_of_address(plan, AF_INET6, mnl_attr_get_payload(v6)));
}

static bool is_proxied(const struct nlmsghdr *h, const struct slot_net *n)
{
    const struct nlattr *mark = nl_attr(h, sizeof(struct nfgenmsg), CTA_MARK);

    return mark && (ntohl(mnl_attr_get_u32(mark)) & NF_PROXY_MARK_MASK) == NF_PROXY_MARK(n->slot);
}

static bool is_doomed(const struct nlmsghdr *h, const struct doomed *d)
{
    bool begun = is_from(h, CTA_TUPLE_ORIG, d->n), answers = is_from(h, CTA_TUPLE_REPLY, d->n);

    switch (d->which) {
    case CONNTRACK_ALL:
        return begun || answers;
    case CONNTRACK_BEGUN:
        return begun;
    case CONNTRACK_PEERS:
        return !is_translated(h) && ((begun && is_from_any(h, CTA_TUPLE_REPLY, d->plan)) ||
                                     (answers && is_from_any(h, CTA_TUPLE_ORIG, d->plan)));
    case CONNTRACK_FORWARDED:
        return answers && is_translated(h) && is_to_forward(h, d);
    case CONNTRACK_UNFORWARDED:
        return !is_translated(h) && is_to_forward(h, d);
    case CONNTRACK_PROXIED:
        return is_proxied(h, d->n);
    case CONNTRACK_SILENT:
        return (begun || answers) && !is_answered(h);
    }
    abort();
}

static void append(struct doomed *d, const void *data, size_t len)
{
    d->data = mem_grow(d->data, d->len + len, 1);
    memcpy(d->data + d->len, data, len);
    d->len += len;
}

static int collect(const struct nlmsghdr *h, void *data)
{
    static const uint16_t kept[] = {CTA_TUPLE_ORIG, CTA_ID, CTA_ZONE};
    const struct nfgenmsg *g = mnl_nlmsg_get_payload(h);
    struct record record = {.family = g->nfgen_family};
    const struct nlattr *parts[ARRAY_LEN(kept)];
    struct doomed *d = data;

    if (!is_doomed(h, d))
        return MNL_CB_OK;
    for (size_t i = 0; i < ARRAY_LEN(kept); i++) {
        parts[i] = nl_attr(h, sizeof(struct nfgenmsg), kept[i]);
        record.len += parts[i] ? nl_align(parts[i]->nla_len) : 0;
    }
    append(d, &record, sizeof(record));
    for (size_t i = 0; i < ARRAY_LEN(kept); i++)
        if (parts[i])
            append(d, parts[i], nl_align(parts[i]->nla_len));
    return MNL_CB_OK;
}

static void put_filter(struct nlmsghdr *h, uint32_t family, uint16_t tuple, const struct slot_net *n)
{
    struct nlattr *outer = mnl_attr_nest_start(h, tuple), *inner = mnl_attr_nest_start(h, CTA_TUPLE_IP);

    if (family == AF_INET)
        mnl_attr_put(h, CTA_IP_V4_SRC, sizeof(n->addr4), &n->addr4);
    else
        mnl_attr_put(h, CTA_IP_V6_SRC, sizeof(n->addr6), &n->addr6);
    mnl_attr_nest_end(h, inner);
    mnl_attr_nest_end(h, outer);
    outer = mnl_attr_nest_start(h, CTA_FILTER);
    mnl_attr_put_u32(h, CTA_FILTER_ORIG_FLAGS, tuple == CTA_TUPLE_ORIG ? FILTER_BY_SOURCE : 0);
    mnl_attr_put_u32(h, CTA_FILTER_REPLY_FLAGS, tuple == CTA_TUPLE_REPLY ? FILTER_BY_SOURCE : 0);
    mnl_attr_nest_end(h, outer);
}

/* tuple 0: everything. */
static int dump(struct nf *nf, struct doomed *d, uint32_t family, uint16_t tuple)
{
    char buf[NL_MESSAGE_MAX];
    struct nlmsghdr *h = nl_message_nf(&nf->conntrack, buf, CONNTRACK(IPCTNL_MSG_CT_GET), NLM_F_DUMP, (uint8_t)family);

    if (tuple)
        put_filter(h, family, tuple, d->n);
    return nl_dump(&nf->conntrack, h, collect, d);
}

static int find(struct nf *nf, struct doomed *d)
{
    static const struct {
        uint32_t family;
        uint16_t tuple;
    } passes[] = {
        {AF_INET, CTA_TUPLE_ORIG}, {AF_INET, CTA_TUPLE_REPLY}, {AF_INET6, CTA_TUPLE_ORIG}, {AF_INET6, CTA_TUPLE_REPLY}};
    int rc = 0;

    if (counted_entries() < SMALL_TABLE || d->which == CONNTRACK_UNFORWARDED || d->which == CONNTRACK_PROXIED)
        return dump(nf, d, AF_UNSPEC, 0);
    for (size_t i = 0; !rc && i < ARRAY_LEN(passes); i++)
        if (passes[i].tuple == CTA_TUPLE_ORIG ? d->which != CONNTRACK_FORWARDED : d->which != CONNTRACK_BEGUN)
            rc = dump(nf, d, passes[i].family, passes[i].tuple);
    if (rc == EINVAL || rc == EOPNOTSUPP) {
        d->len = 0;
        rc = dump(nf, d, AF_UNSPEC, 0);
    }
    return rc;
}

/* So many at a time: a message for each and an answer would take five times as long. */
enum { DELETIONS_BYTES = 16384 };

static struct err *delete_all(struct nf *nf, const struct doomed *d)
{
    autofree char *buf = mem_alloc(1, DELETIONS_BYTES + NL_MESSAGE_MAX);
    struct err *e = NULL;
    size_t used = 0;

    for (size_t at = 0; !e && at < d->len;) {
        struct record record;
        struct nlmsghdr *h;

        memcpy(&record, d->data + at, sizeof(record));
        at += sizeof(record);
        h = nl_message_nf(&nf->conntrack, buf + used, CONNTRACK(IPCTNL_MSG_CT_DELETE), 0, (uint8_t)record.family);
        memcpy(mnl_nlmsg_get_payload_tail(h), d->data + at, record.len);
        h->nlmsg_len += record.len;
        at += record.len;
        used += nl_align(h->nlmsg_len);
        if (used < DELETIONS_BYTES && at < d->len)
            continue;
        h->nlmsg_flags |= NLM_F_ACK;
        e = nl_do_many(&nf->conntrack, buf, used, ENOENT, "cannot delete a conntrack entry");
        used = 0;
    }
    return e;
}

struct err *conntrack_flush(struct nf *nf, const struct slot_net *n, enum conntrack_which which,
                            const struct nf_forward *forwards, size_t count)
{
    struct doomed d = {.n = n, .plan = &nf->plan, .which = which, .forwards = forwards, .forward_count = count};
    int rc = find(nf, &d);
    struct err *e;

    if (rc)
        e = err_errno(rc, "cannot list the conntrack entries");
    else
        e = delete_all(nf, &d);
    free(d.data);
    return e;
}
