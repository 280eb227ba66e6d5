/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What goes to a container is delayed, not dropped, above its limit: a token bucket (tbf) at the host end of its link.
 * Everything that reaches it passes there, from proxies of this host too.
 */
#include <errno.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>

#include "netfilter/nf.h"

#define QUEUE_MS 100 /* what waits longer is dropped */
#define BURST_MS 10
#define BURST_MIN 131072u /* two of the largest packets that the kernel hands on at once */

static struct tcmsg *put_tc(struct nlmsghdr *h, unsigned index)
{
    struct tcmsg *m = mnl_nlmsg_put_extra_header(h, sizeof(*m));

    m->tcm_family = AF_UNSPEC;
    m->tcm_ifindex = (int)index;
    m->tcm_parent = TC_H_ROOT;
    return m;
}

static uint32_t burst_of(uint64_t rate)
{
    return (uint32_t)MIN(MAX(rate * BURST_MS / 1000, (uint64_t)BURST_MIN), (uint64_t)INT32_MAX);
}

static uint32_t queue_of(uint64_t rate)
{
    return (uint32_t)MIN(rate * QUEUE_MS / 1000 + burst_of(rate), (uint64_t)INT32_MAX);
}

static int set_rate(struct nf *nf, unsigned index, uint64_t rate)
{
    char buf[NL_MESSAGE_MAX];
    struct nlmsghdr *h = nl_message(&nf->route, buf, RTM_NEWQDISC, NLM_F_CREATE | NLM_F_REPLACE);
    struct tc_tbf_qopt opt = {
        .rate = {.rate = (uint32_t)MIN(rate, (uint64_t)UINT32_MAX), .linklayer = TC_LINKLAYER_ETHERNET},
        .limit = queue_of(rate)};
    struct nlattr *nest;

    put_tc(h, index);
    mnl_attr_put_strz(h, TCA_KIND, "tbf");
    nest = mnl_attr_nest_start(h, TCA_OPTIONS);
    mnl_attr_put(h, TCA_TBF_PARMS, sizeof(opt), &opt);
    mnl_attr_put_u32(h, TCA_TBF_BURST, burst_of(rate));
    if (rate > UINT32_MAX)
        mnl_attr_put_u64(h, TCA_TBF_RATE64, rate);
    mnl_attr_nest_end(h, nest);
    return nl_request(&nf->route, h);
}

static int drop_qdisc(struct nf *nf, unsigned index)
{
    char buf[NL_MESSAGE_MAX];
    struct nlmsghdr *h = nl_message(&nf->route, buf, RTM_DELQDISC, 0);
    int rc;

    put_tc(h, index);
    rc = nl_request(&nf->route, h);
    return rc == ENOENT || rc == EINVAL ? 0 : rc; /* there is none of ours */
}

struct err *shape_link(struct nf *nf, const struct slot_net *n, uint64_t down)
{
    unsigned index = if_nametoindex(n->ifname);
    int rc;

    if (!index) /* it is made later, and the limit comes with its rules */
        return NULL;
    rc = down ? set_rate(nf, index, down) : drop_qdisc(nf, index);
    return rc == 0 || rc == ENODEV ? NULL : err_errno(rc, "link '%s': cannot limit what it receives", n->ifname);
}

/* A link's token bucket; rate 0: it has none. */
struct bucket {
    uint64_t rate;
    uint32_t queue;
};

struct shaped {
    struct nf *nf;
    struct bucket *has; /* by slot */
};

static struct bucket bucket_of(const struct nlattr *options)
{
    const struct nlattr *parms = nl_attr_inside(options, TCA_TBF_PARMS),
                        *rate64 = nl_attr_inside(options, TCA_TBF_RATE64);
    struct tc_tbf_qopt opt = {0};
    struct bucket b;

    if (parms)
        memcpy(&opt, mnl_attr_get_payload(parms), MIN(sizeof(opt), mnl_attr_get_payload_len(parms)));
    b = (struct bucket){.rate = MAX(opt.rate.rate, 1u), .queue = opt.limit};
    if (rate64 && mnl_attr_validate(rate64, MNL_TYPE_U64) >= 0)
        b.rate = mnl_attr_get_u64(rate64);
    return b;
}

static int see(const struct nlmsghdr *h, void *data)
{
    const struct tcmsg *m = mnl_nlmsg_get_payload(h);
    const struct nlattr *kind = nl_attr(h, sizeof(*m), TCA_KIND);
    struct shaped *s = data;
    char name[IF_NAMESIZE];

    if (m->tcm_parent == TC_H_ROOT && kind && mnl_attr_validate(kind, MNL_TYPE_NUL_STRING) >= 0 &&
        strcmp(mnl_attr_get_str(kind), "tbf") == 0 && if_indextoname((unsigned)m->tcm_ifindex, name))
        s->has[net_plan_slot_of(&s->nf->plan, name)] = bucket_of(nl_attr(h, sizeof(*m), TCA_OPTIONS));
    return MNL_CB_OK;
}

static bool is_right(const struct bucket *b, uint64_t down)
{
    return b->rate == down && (!down || b->queue == queue_of(down));
}

struct err *shape_repair(struct nf *nf, const struct nf_container *containers, size_t count, struct nf_drift *d)
{
    autofree struct bucket *has = mem_new_array(struct bucket, NET_SLOT_MAX + 1);
    struct shaped s = {.nf = nf, .has = has};
    char buf[NL_MESSAGE_MAX];
    struct nlmsghdr *h = nl_message(&nf->route, buf, RTM_GETQDISC, NLM_F_DUMP);
    struct err *e = NULL;
    int rc;

    put_tc(h, 0)->tcm_parent = 0;
    rc = nl_dump(&nf->route, h, see, &s);
    if (rc)
        return err_errno(rc, "cannot list the limits of links");
    for (size_t i = 0; !e && i < count; i++) {
        const struct nf_container *c = &containers[i];
        struct slot_net n;

        if (is_right(&has[c->slot], c->limits.down))
            continue;
        slot_net_init(&nf->plan, c->slot, &n);
        if (!if_nametoindex(n.ifname))
            continue; /* with its link the limit comes again */
        nf_drift_add(d, c->slot, "%s: limit of what it receives", n.ifname);
        e = shape_link(nf, &n, c->limits.down);
    }
    return e;
}
