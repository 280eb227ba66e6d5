/* SPDX-License-Identifier: Apache-2.0 */
#include "netfilter/netfilter.h"

#include "base/str.h"
#include "netfilter/expr.h"
#include "netfilter/hits.h"
#include "netfilter/refill.h"

static void *copy_of(const void *from, size_t count, size_t size)
{
    void *p;

    if (!count)
        return NULL;
    p = mem_alloc(count, size);
    memcpy(p, from, count * size);
    return p;
}

static void remember(struct nf *nf, const struct nf_container *c)
{
    struct known *k = &nf->known[c->slot];

    free(k->kit_ports);
    free(k->forwards);
    *k = (struct known){.kit_ports = copy_of(c->kit_ports, c->kit_port_count, sizeof(*c->kit_ports)),
                        .kit_port_count = c->kit_port_count,
                        .forwards = copy_of(c->forwards, c->forward_count, sizeof(*c->forwards)),
                        .forward_count = c->forward_count,
                        .way_out = c->way_out,
                        .limits = c->limits,
                        .group = c->group,

                        .proxy = c->proxy};
}

static void forget(struct nf *nf, int slot)
{
    remember(nf, &(struct nf_container){.slot = slot});
}

static void remember_nothing(struct nf *nf)
{
    for (int slot = 0; slot <= NET_SLOT_MAX; slot++)
        forget(nf, slot);
}

struct err *nf_open(const struct nf_config *config, struct nf **ret)
{
    auto_(nf_close) struct nf *nf = mem_new(struct nf);
    struct err *e;

    nf->table = str_dup(config->table);
    for (int i = 0; i < NF_LISTS; i++)
        lists_name(nf->lists[i], nf->table, i);
    nf->uplink = str_dup(config->uplink);
    nf->plan = config->plan;
    nf->inter_container = config->inter_container;
    nf->drop_ipv6 = config->drop_ipv6;
    nf->ipv4_only = config->ipv4_only;
    nf->host_tcp_ports = copy_of(config->host_tcp_ports, config->host_tcp_port_count, sizeof(*nf->host_tcp_ports));
    nf->host_tcp_port_count = config->host_tcp_port_count;
    nf->host_udp_ports = copy_of(config->host_udp_ports, config->host_udp_port_count, sizeof(*nf->host_udp_ports));
    nf->host_udp_port_count = config->host_udp_port_count;
    nf->proxy_uids = copy_of(config->proxy_uids, config->proxy_uid_count, sizeof(*nf->proxy_uids));
    nf->proxy_uid_count = config->proxy_uid_count;
    nf->share_percent = config->share_percent ? config->share_percent : NF_SHARE_PERCENT;
    nf->reserve_percent = config->reserve_percent ? config->reserve_percent : NF_RESERVE_PERCENT;
    nf->known = mem_new_array(struct known, NET_SLOT_MAX + 1);
    e = nl_open(&nf->rules, NETLINK_NETFILTER);
    if (!e)
        e = nl_open(&nf->conntrack, NETLINK_NETFILTER);
    if (!e)
        e = nl_open(&nf->route, NETLINK_ROUTE);
    if (e)
        return e;
    *ret = steal(&nf);
    return NULL;
}

void nf_close(struct nf *nf)
{
    if (!nf)
        return;
    nl_close(&nf->rules);
    nl_close(&nf->conntrack);
    nl_close(&nf->route);
    remember_nothing(nf);
    free(nf->known);
    free(nf->table);
    free(nf->uplink);
    free(nf->host_tcp_ports);
    free(nf->host_udp_ports);
    free(nf->proxy_uids);
    free(nf);
}

/* there: what is kept and filled; NULL: the tables are made anew. */
static struct err *rebuild(struct nf *nf, const struct nf_container *containers, size_t count, const struct hits *hits,
                           struct refill *there)
{
    struct batch batch;
    const struct build b = {.batch = &batch, .table = nf->table, .hits = hits};
    struct err *e = NULL;

    batch_init(&batch, &nf->rules);
    if (there)
        refill_begin(nf, there, &b);
    else
        table_delete(nf, &b);
    table_create(nf, &b);
    for (size_t i = 0; !e && i < count; i++)
        e = plan_container(nf, &b, &containers[i]);
    if (!e && there && !refill_end(there, &b))
        e = err_new(ERR_CONFLICT, "what is in the tables cannot be kept");
    if (!e)
        e = batch_send(&batch);
    batch_clear(&batch);
    return e;
}

/* The kernel may lack the modules that count connections: then the firewall is installed without the rules that count.
 * e, the kernel's refusal, is taken over. */
static struct err *without_counting(struct nf *nf, const struct nf_container *containers, size_t count,
                                    const struct hits *hits, struct err *e)
{
    struct err *again;

    nf->uncounted = true;
    again = rebuild(nf, containers, count, hits, NULL);
    if (!again) {
        err_free(e);
        return NULL;
    }
    nf->uncounted = false; /* something else is wrong */
    err_free(again);
    return e;
}

static struct err *sync_table(struct nf *nf, const struct nf_container *containers, size_t count)
{
    struct refill there = {0};
    struct hits hits = {0};
    struct err *e;

    counted_measure(nf);
    (void)hits_collect(nf, 0, &hits); /* without: they count from 0 */
    remember_nothing(nf);
    e = refill_read(nf, &there) == 0 ? rebuild(nf, containers, count, &hits, &there)
                                     : err_new(ERR_HOST, "cannot read what is in the tables");
    if (e) { /* another version's shape, or somebody has put other things in their place */
        err_free(e);
        e = rebuild(nf, containers, count, &hits, NULL);
    }
    if (e && !nf->uncounted)
        e = without_counting(nf, containers, count, &hits, e);
    for (size_t i = 0; !e && i < count; i++)
        remember(nf, &containers[i]);
    refill_clear(&there);
    hits_clear(&hits);
    return e;
}

struct err *nf_sync(struct nf *nf, const struct nf_container *containers, size_t count)
{
    uint8_t keep[NET_SLOT_MAX / 8 + 1] = {0};
    struct nf_drift unasked = {0};
    struct err *e;

    e = sync_table(nf, containers, count);
    if (e)
        return e;
    for (size_t i = 0; i < count; i++)
        keep[containers[i].slot / 8] |= (uint8_t)(1 << (containers[i].slot % 8));
    e = links_sweep(nf, keep);
    /* Forwarding after the table: nothing passes before the rules are there. */
    if (!e)
        e = proxy_sweep(nf);
    if (!e)
        e = drift_repair(nf, containers, count, &unasked);
    return e ? e : shape_repair(nf, containers, count, &unasked);
}

struct err *nf_repair(struct nf *nf, const struct nf_container *containers, size_t count, bool table,
                      struct nf_drift *d)
{
    struct err *e = table ? sync_table(nf, containers, count) : NULL;

    if (!e)
        e = drift_repair(nf, containers, count, d);
    return e ? e : shape_repair(nf, containers, count, d);
}

static struct err *known_slot(const struct nf *nf, int slot)
{
    if (slot >= 1 && slot <= net_plan_max_slot(&nf->plan))
        return NULL;
    return err_new(ERR_LIMIT, "the address pools have no place for container %d", slot);
}

/* What the link needs before the rules let its packets come. */
static struct err *link_begin(struct nf *nf, const struct slot_net *n, const struct nf_container *c)
{
    struct err *e = c->proxy ? proxy_begin(nf, n) : NULL;

    if (!e && (c->limits.down || nf->known[c->slot].limits.down))
        e = shape_link(nf, n, c->limits.down);
    return e;
}

/* As it was, when the rules are refused. */
static void link_undo(struct nf *nf, const struct slot_net *n, const struct nf_container *c)
{
    const struct known *k = &nf->known[c->slot];

    if (c->proxy && !k->proxy)
        err_ignore(proxy_end(nf, n));
    if (c->limits.down != k->limits.down)
        err_ignore(shape_link(nf, n, k->limits.down));
}

struct err *nf_container_set(struct nf *nf, const struct nf_container *container)
{
    struct batch batch;
    struct hits hits = {0};
    const struct build b = {.batch = &batch, .table = nf->table, .hits = &hits};
    struct slot_net n;
    struct err *e = known_slot(nf, container->slot);

    if (e)
        return e;
    slot_net_init(&nf->plan, container->slot, &n);
    e = link_begin(nf, &n, container);
    if (container->ingress_count || container->egress_count)
        (void)hits_collect(nf, container->slot, &hits); /* without: they count from 0 */
    batch_init(&batch, &nf->rules);
    if (!e)
        e = plan_container(nf, &b, container);
    if (!e)
        e = batch_send(&batch);
    batch_clear(&batch);
    hits_clear(&hits);
    if (e) {
        link_undo(nf, &n, container);
        return e;
    }
    if (nf->known[container->slot].way_out != container->way_out)
        e = conntrack_flush(nf, &n, CONNTRACK_BEGUN, NULL, 0);
    if (nf->known[container->slot].group && nf->known[container->slot].group != container->group)
        e = err_first(e, conntrack_flush(nf, &n, CONNTRACK_PEERS, NULL, 0));
    e = err_first(e, forward_flush(nf, &n, container));
    if (nf->known[container->slot].proxy && !container->proxy)
        e = err_first(e, proxy_end(nf, &n));
    remember(nf, container);
    return e;
}

static void hits_of_list(const struct hits *hits, int slot, enum rule_direction direction, struct rule *const *list,
                         size_t count, struct nf_hits *ret)
{
    for (size_t i = 0; i < count; i++)
        ret[i] =
            list[i]->state == RULE_ENABLED ? hits_of(hits, slot, direction, rule_id(list[i])) : (struct nf_hits){0};
}

struct err *nf_container_hits(struct nf *nf, const struct nf_container *c, struct nf_hits *ret_ingress,
                              struct nf_hits *ret_egress)
{
    struct hits hits = {0};
    int rc = hits_collect(nf, c->slot, &hits);

    if (rc)
        return err_errno(rc, "slot %d: cannot read its counters", c->slot);
    hits_of_list(&hits, c->slot, RULE_INGRESS, c->ingress, c->ingress_count, ret_ingress);
    hits_of_list(&hits, c->slot, RULE_EGRESS, c->egress, c->egress_count, ret_egress);
    hits_clear(&hits);
    return NULL;
}

struct err *nf_container_remove(struct nf *nf, int slot)
{
    struct batch batch;
    const struct build b = {.batch = &batch, .table = nf->table};
    struct slot_net n;
    struct err *e = known_slot(nf, slot);

    if (e)
        return e;
    slot_net_init(&nf->plan, slot, &n);
    batch_init(&batch, &nf->rules);
    plan_remove(nf, &b, slot);
    e = batch_send(&batch);
    batch_clear(&batch);
    if (e)
        return e;
    if (nf->known[slot].proxy)
        e = proxy_end(nf, &n);
    forget(nf, slot);
    return err_first(e, conntrack_flush(nf, &n, CONNTRACK_ALL, NULL, 0));
}

struct err *nf_link_create(struct nf *nf, int slot)
{
    struct slot_net n;
    struct err *e = known_slot(nf, slot);

    if (e)
        return e;
    slot_net_init(&nf->plan, slot, &n);
    return err_wrap(links_create(nf, &n), "link '%s'", n.ifname);
}

struct err *nf_link_delete(struct nf *nf, int slot)
{
    struct slot_net n;
    struct err *e = known_slot(nf, slot);

    if (e)
        return e;
    slot_net_init(&nf->plan, slot, &n);
    return err_wrap(links_delete(nf, n.ifname), "link '%s'", n.ifname);
}

struct err *nf_link_counters(struct nf *nf, int slot, struct nf_counters *ret)
{
    struct slot_net n;
    struct err *e = known_slot(nf, slot);

    if (e)
        return e;
    slot_net_init(&nf->plan, slot, &n);
    return links_counters(nf, n.ifname, ret);
}

struct err *nf_uninstall(struct nf *nf)
{
    struct batch batch;
    const struct build b = {.batch = &batch, .table = nf->table};
    struct err *e;

    /* Links first: without rules a container would be open. */
    e = links_sweep(nf, NULL);
    e = err_first(e, routes_remove(nf));
    remember_nothing(nf);
    e = err_first(e, proxy_sweep(nf));
    batch_init(&batch, &nf->rules);
    table_delete(nf, &b);
    e = err_first(e, batch_send(&batch));
    batch_clear(&batch);
    return e;
}
