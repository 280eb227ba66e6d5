/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ports of this host that lead to containers: one map for each family, so a packet's cost does not grow with their
 * number. Only what arrives from outside or from a container is translated. A program of this host reaches the
 * container at its own address: the kernel would show such a packet to the output chain with the interface it had
 * before the translation, so the container's rules would not be asked.
 */
#include "netfilter/nf.h"

#include <linux/netfilter_ipv4.h>
#include <linux/rtnetlink.h>

#include "netfilter/chain.h"
#include "netfilter/match.h"
#include "netfilter/set.h"

static void translate(const struct build *b, uint8_t nfproto, const char *map, uint32_t port_reg)
{
    const uint32_t local = RTN_LOCAL;
    struct nftnl_rule *r = rule_begin(b, "forwarded");

    match_family(r, nfproto);
    expr_fib_type(r, NFTA_FIB_F_DADDR, REG_MAIN);
    expr_cmp(r, REG_MAIN, NFT_CMP_EQ, &local, sizeof(local));
    expr_meta(r, NFT_META_L4PROTO, REG_QUARTER(0));
    expr_payload(r, NFT_PAYLOAD_TRANSPORT_HEADER, 2, 2, REG_QUARTER(1));
    expr_map(r, REG_QUARTER(0), map, REG_ADDRESS);
    expr_dnat(r, nfproto, REG_ADDRESS, port_reg);
    rule_end(b, r, NULL);
}

void forward_chain(const struct build *b)
{
    chain_base(b, "forwarded", "nat", NF_INET_PRE_ROUTING, NF_IP_PRI_NAT_DST);
    /* The data of an element is the address, then the port, in quarters one after the other. */
    translate(b, NFPROTO_IPV4, MAP_FORWARD4, REG_QUARTER(5));
    translate(b, NFPROTO_IPV6, MAP_FORWARD6, REG_PORT);
}

static bool has(const struct nf_forward *list, size_t count, const struct nf_forward *f)
{
    for (size_t i = 0; i < count; i++)
        if (list[i].protocol == f->protocol && list[i].host_port == f->host_port && list[i].port == f->port)
            return true;
    return false;
}

void forward_elements(const struct nf *nf, const struct build *b, const struct slot_net *n,
                      const struct nf_forward *forwards, size_t count)
{
    const struct known *old = &nf->known[n->slot];

    for (size_t i = 0; i < old->forward_count; i++)
        if (!has(forwards, count, &old->forwards[i])) {
            set_forward(b, SET_ADD, n, &old->forwards[i]); /* so that the deletion cannot fail */
            set_forward(b, SET_DELETE, n, &old->forwards[i]);
        }
    for (size_t i = 0; i < count; i++)
        set_forward(b, SET_ADD, n, &forwards[i]);
}

/* Of `list`, what the other list has not. */
static size_t missing(const struct nf_forward *list, size_t count, const struct nf_forward *other, size_t other_count,
                      struct nf_forward *ret)
{
    size_t n = 0;

    for (size_t i = 0; i < count; i++)
        if (!has(other, other_count, &list[i]))
            ret[n++] = list[i];
    return n;
}

struct err *forward_flush(struct nf *nf, const struct slot_net *n, const struct nf_container *c)
{
    const struct known *old = &nf->known[c->slot];
    autofree struct nf_forward *changed = mem_new_array(struct nf_forward, old->forward_count + c->forward_count + 1);
    size_t count = missing(old->forwards, old->forward_count, c->forwards, c->forward_count, changed);
    struct err *e = NULL;

    if (count)
        e = conntrack_flush(nf, n, CONNTRACK_FORWARDED, changed, count);
    count = missing(c->forwards, c->forward_count, old->forwards, old->forward_count, changed);
    if (count)
        e = err_first(e, conntrack_flush(nf, n, CONNTRACK_UNFORWARDED, changed, count));
    return e;
}
