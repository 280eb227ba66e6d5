/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A container's part of the table: two chains, in_<slot> and out_<slot>, and its elements. "allow" returns to the base
 * chain, so that a packet from one container to another meets both lists.
 */

#include "base/failpoint.h"
#include "netfilter/chain.h"
#include "netfilter/hits.h"
#include "netfilter/match.h"
#include "netfilter/set.h"

struct chain_names chain_names(int slot)
{
    struct chain_names n;

    snprintf(n.in, sizeof(n.in), "in_%d", slot);
    snprintf(n.out, sizeof(n.out), "out_%d", slot);
    return n;
}

/* A user's rule on its way into the kernel. */
struct source {
    const struct rule *rule;
    const char *chain;
    enum match_side side;
    uint64_t id;
    struct nf_hits hits; /* what it counts from; the first of its kernel rules takes it */
    char comment[32];
};

static void decide(struct nftnl_rule *r, struct source *s)
{
    const struct rule *u = s->rule;

    expr_counter_from(r, s->hits.packets, s->hits.bytes);
    s->hits = (struct nf_hits){0};
    if (u->action == RULE_ALLOW)
        expr_verdict(r, NFT_RETURN, NULL);
    else if (u->action == RULE_DROP)
        expr_verdict(r, NF_DROP, NULL);
    else if (u->protocol == RULE_TCP)
        expr_reject_tcp(r);
    else
        expr_reject_icmp(r);
}

/* Failpoint "rule.ingress.3": the kernel refuses this rule for something that it does not know. */
static void damage(const struct build *b, struct nftnl_rule *r)
{
    const struct batch_subject *of = &b->batch->of;
    char name[48];
    struct err *e;

    snprintf(name, sizeof(name), "rule.%s.%zu", rule_direction_name(of->direction), of->rule - 1);
    e = failpoint(name);
    if (e)
        expr_meta(r, UINT32_MAX, REG_MAIN);
    err_free(e);
}

/* One combination of a rule's lists; each pointer may be NULL for "everything". */
static void one_rule(const struct build *b, struct source *s, const struct rule_range *network,
                     const struct rule_range *dport, const struct rule_range *sport)
{
    static const uint8_t protocols[] = {
        [RULE_TCP] = IPPROTO_TCP, [RULE_UDP] = IPPROTO_UDP, [RULE_ICMP4] = IPPROTO_ICMP};
    const struct rule *u = s->rule;
    struct nftnl_rule *r = rule_begin(b, s->chain);

    if (network || u->protocol == RULE_ICMP4)
        match_family(r, NFPROTO_IPV4);
    if (network)
        match_network4(r, s->side, network);
    match_protocol(r, protocols[u->protocol]);
    if (dport)
        match_port(r, MATCH_DESTINATION, dport);
    if (sport)
        match_port(r, MATCH_SOURCE, sport);
    if (u->type >= 0)
        match_icmp(r, 0, (uint8_t)u->type);
    if (u->code >= 0)
        match_icmp(r, 1, (uint8_t)u->code);
    decide(r, s);
    damage(b, r);
    rule_end_user(b, r, s->comment, s->id);
}

static void user_rule(const struct build *b, struct source *s)
{
    const struct rule *u = s->rule;
    size_t n = 0;

    do {
        size_t d = 0;
        do {
            size_t p = 0;
            do
                one_rule(b, s, u->network_count ? &u->networks[n] : NULL,
                         u->destination_port_count ? &u->destination_ports[d] : NULL,
                         u->source_port_count ? &u->source_ports[p] : NULL);
            while (++p < u->source_port_count);
        } while (++d < u->destination_port_count);
    } while (++n < u->network_count);
}

/* Rules are IPv4: with drop_ipv6 a list that has any lets none of the rest in. */
static void close_ipv6(const struct build *b, const char *chain, struct rule *const *list, size_t count)
{
    struct nftnl_rule *r;
    size_t i = 0;

    while (i < count && list[i]->state != RULE_ENABLED)
        i++;
    if (i == count)
        return;
    r = rule_begin(b, chain);
    match_family(r, NFPROTO_IPV6);
    expr_counter(r);
    expr_verdict(r, NF_DROP, NULL);
    rule_end(b, r, "rules are IPv4");
}

static void user_rules(const struct nf *nf, const struct build *b, const char *chain, enum rule_direction direction,
                       struct rule *const *list, size_t count)
{
    struct batch_subject *of = &b->batch->of;

    if (nf->drop_ipv6)
        close_ipv6(b, chain, list, count);
    of->direction = direction;
    for (size_t i = 0; i < count; i++) {
        struct source s = {.rule = list[i],
                           .chain = chain,
                           .side = direction == RULE_INGRESS ? MATCH_SOURCE : MATCH_DESTINATION,
                           .id = rule_id(list[i])};

        if (list[i]->state != RULE_ENABLED)
            continue;
        s.hits = hits_of(b->hits, of->slot, direction, s.id);
        snprintf(s.comment, sizeof(s.comment), "rule %zu", i);
        of->rule = i + 1;
        user_rule(b, &s);
    }
    of->rule = 0;
}

static bool has_port(const uint16_t *ports, size_t count, uint16_t port)
{
    for (size_t i = 0; i < count; i++)
        if (ports[i] == port)
            return true;
    return false;
}

/* Elements cannot be flushed for one container, so those that go are known from what was set before. */
static void kit_ports(const struct nf *nf, const struct build *b, const struct slot_net *n, const uint16_t *ports,
                      size_t count)
{
    const struct known *old = &nf->known[n->slot];

    for (size_t i = 0; i < old->kit_port_count; i++)
        if (!has_port(ports, count, old->kit_ports[i])) {
            set_kit_port(b, SET_ADD, n, old->kit_ports[i]); /* so that the deletion cannot fail */
            set_kit_port(b, SET_DELETE, n, old->kit_ports[i]);
        }
    for (size_t i = 0; i < count; i++)
        set_kit_port(b, SET_ADD, n, ports[i]);
}

/* What is not wanted is added first, so that its deletion cannot fail. */
static void egress(const struct build *b, const struct slot_net *n, enum nf_egress how)
{
    set_confined(b, SET_ADD, n);
    set_relayed(b, SET_ADD, n);
    if (how == NF_EGRESS_OPEN)
        set_confined(b, SET_DELETE, n);
    if (how != NF_EGRESS_RELAYED)
        set_relayed(b, SET_DELETE, n);
}

/* A map's element cannot be changed, only replaced. */
static void project(const struct nf *nf, const struct build *b, const struct slot_net *n, uint16_t group)
{
    uint16_t old = nf->known[n->slot].group;

    if (old && old != group) {
        set_project(b, SET_ADD, n, old); /* so that the deletion cannot fail */
        set_project(b, SET_DELETE, n, old);
    }
    if (group)
        set_project(b, SET_ADD, n, group);
}

/* Both lists of a container become too many kernel rules. */
static bool too_many(const struct nf_container *c)
{
    return rules_expansion(c->ingress, c->ingress_count) + rules_expansion(c->egress, c->egress_count) >
           RULE_MAX_KERNEL;
}

struct err *plan_container(const struct nf *nf, const struct build *b, const struct nf_container *c)
{
    const struct build lists = lists_of(nf, b, c->slot);
    struct chain_names names = chain_names(c->slot);
    struct slot_net n;

    if (c->slot < 1 || c->slot > net_plan_max_slot(&nf->plan))
        return err_new(ERR_LIMIT, "the address pools have no place for container %d", c->slot);
    if (too_many(c))
        return err_data(err_new(ERR_LIMIT, "slot %d: the firewall rules would make more than %d kernel rules", c->slot,
                                RULE_MAX_KERNEL),
                        json_pack("{s:i}", "slot", c->slot));
    slot_net_init(&nf->plan, c->slot, &n);
    b->batch->of.slot = c->slot;
    chain_plain(&lists, names.in);
    chain_plain(&lists, names.out);
    chain_flush(&lists, names.in);
    chain_flush(&lists, names.out);
    kit_ports(nf, b, &n, c->kit_ports, c->kit_port_count);
    forward_elements(nf, b, &n, c->forwards, c->forward_count);
    limit_begin(nf, b, &lists, &n, &c->limits);
    limit_connections(&lists, names.in, c->slot, &c->limits);
    limit_connections(&lists, names.out, c->slot, &c->limits);
    user_rules(nf, &lists, names.in, RULE_INGRESS, c->ingress, c->ingress_count);
    egress(b, &n, c->way_out);
    project(nf, b, &n, c->group);
    proxy_elements(b, &n, c->proxy);
    user_rules(nf, &lists, names.out, RULE_EGRESS, c->egress, c->egress_count);
    limit_end(nf, b, &lists, &n, &c->limits);
    set_container(b, SET_ADD, &n);
    set_lists(&lists, SET_ADD, &n, names.in, names.out);
    set_ready(b, SET_ADD, &n);
    if (c->closed)
        set_ready(b, SET_DELETE, &n); /* added first, so that the deletion cannot fail */
    b->batch->of.slot = 0;
    return NULL;
}

void plan_remove(const struct nf *nf, const struct build *b, int slot)
{
    const struct build lists = lists_of(nf, b, slot);
    struct chain_names names = chain_names(slot);
    struct slot_net n;

    /* Everything is added first, so that it can be deleted whatever was there. */
    slot_net_init(&nf->plan, slot, &n);
    b->batch->of.slot = slot;
    chain_plain(&lists, names.in);
    chain_plain(&lists, names.out);
    set_container(b, SET_ADD, &n);
    set_lists(&lists, SET_ADD, &n, names.in, names.out);
    set_ready(b, SET_ADD, &n);
    set_ready(b, SET_DELETE, &n);
    kit_ports(nf, b, &n, NULL, 0);
    forward_elements(nf, b, &n, NULL, 0);
    egress(b, &n, NF_EGRESS_OPEN);
    project(nf, b, &n, 0);
    proxy_elements(b, &n, false);
    counted_forget(nf, b, &n);
    set_container(b, SET_DELETE, &n);
    set_lists(&lists, SET_DELETE, &n, names.in, names.out);
    chain_flush(&lists, names.in);
    chain_flush(&lists, names.out);
    limit_end(nf, b, &lists, &n, &(struct nf_limits){0});
    chain_delete(&lists, names.in);
    chain_delete(&lists, names.out);
    b->batch->of.slot = 0;
}
