/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/network/conflict.h"

#include "agent/network/drift.h"
#include "base/log.h"
#include "base/str.h"

struct conflicts {
    json_t *list;
    size_t chains; /* that drop, exceptions or not */
};

struct conflict_look {
    struct agent *agent;
    struct nf_conflict list[NF_CONFLICTS_MAX];
    size_t count;
};

static const struct {
    const char *word, *effect;
} hooks[] = {
    [NF_CONFLICT_FORWARD] = {"forward", "drops what containers send and get, but through a proxy of this host"},
    [NF_CONFLICT_INPUT] = {"input", "drops what containers send to this host: network.host_ports, relays of network "
                                    "configurations"},
    [NF_CONFLICT_OUTPUT] = {"output", "drops what this host sends to containers: the connections of its proxies"},
};

/* For rules of nftables: an exception for what comes from, or goes to, a container. */
static char *remedy_by_rule(const struct nf_conflict *c, const char *prefix)
{
    static const char *const none = "";
    autofree char *from = NULL, *to = NULL;

    if (c->hook != NF_CONFLICT_OUTPUT)
        from = str_fmt("nft insert rule %s %s %s iifname \"%s*\" accept", c->family, c->table, c->chain, prefix);
    if (c->hook != NF_CONFLICT_INPUT)
        to = str_fmt("nft insert rule %s %s %s oifname \"%s*\" accept", c->family, c->table, c->chain, prefix);
    return str_fmt("%s%s%s", from ? from : none, from && to ? "; " : none, to ? to : none);
}

static char *remedy_of_ufw(const struct nf_conflict *c, const char *prefix)
{
    if (c->hook == NF_CONFLICT_FORWARD)
        return str_fmt("ufw route allow in on %s+; ufw route allow out on %s+", prefix, prefix);
    return str_fmt("ufw allow %s on %s+", c->hook == NF_CONFLICT_INPUT ? "in" : "out", prefix);
}

/* What opens the way again. */
static char *remedy_of(const struct agent *a, const struct nf_conflict *c)
{
    const char *nd = a->plan.prefix, *six = str_eq(c->family, "ip6") ? "ip6" : "ip";

    if (str_eq(c->program, "docker"))
        return str_fmt("%stables -I DOCKER-USER -i %s+ -j ACCEPT; %stables -I DOCKER-USER -o %s+ -j ACCEPT", six, nd,
                       six, nd);
    if (str_eq(c->program, "ufw"))
        return remedy_of_ufw(c, nd);
    if (str_eq(c->program, "firewalld"))
        return str_fmt("firewall-cmd --permanent --zone=trusted --add-interface=%s+; firewall-cmd --permanent "
                       "--new-policy=containers; firewall-cmd --permanent --policy=containers "
                       "--add-ingress-zone=ANY; firewall-cmd --permanent --policy=containers "
                       "--add-egress-zone=trusted; firewall-cmd --permanent --policy=containers "
                       "--set-target=ACCEPT; firewall-cmd --reload",
                       nd);
    return remedy_by_rule(c, nd);
}

static json_t *conflict_json(const struct agent *a, const struct nf_conflict *c)
{
    autofree char *remedy = remedy_of(a, c);

    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s}", "program", c->program, "family", c->family, "table",
                     c->table, "chain", c->chain, "hook", hooks[c->hook].word, "effect", hooks[c->hook].effect,
                     "remedy", remedy);
}

static bool has(const json_t *list, const json_t *conflict)
{
    json_t *v;
    size_t i;

    json_array_foreach((json_t *)(uintptr_t)list, i, v) if (json_equal(v, conflict)) return true;
    return false;
}

static const char *word(const json_t *conflict, const char *key)
{
    return json_string_value(json_object_get(conflict, key));
}

static void tell_new(struct agent *a, const json_t *conflict)
{
    autofree char *what =
        str_fmt("%s: chain %s of table %s %s, hook %s: %s", word(conflict, "program"), word(conflict, "chain"),
                word(conflict, "family"), word(conflict, "table"), word(conflict, "hook"), word(conflict, "effect"));

    log_warning(NULL, "another firewall is in the way, what it drops no rule of ours can let through. %s. Remedy: %s",
                what, word(conflict, "remedy"));
    drift_tell(a, "conflict", NULL, json_pack("[{s:s, s:n}]", "what", what, "container_id"), word(conflict, "remedy"));
}

static struct err *run(void *arg)
{
    struct conflict_look *l = arg;

    return nf_conflicts(l->agent->nf, l->list, &l->count);
}

static void on_looked(void *arg, struct err *e)
{
    autofree struct conflict_look *l = arg;
    struct agent *a = l->agent;
    struct conflicts *c = a->conflicts;
    autojson before = NULL;
    json_t *v;
    size_t i;

    if (e) {
        log_err(NULL, LOG_LEVEL_WARNING, e, "other firewalls are not seen, ignoring");
        return;
    }
    if (!c)
        c = a->conflicts = mem_new(struct conflicts);
    before = c->list;
    c->list = json_array();
    c->chains = l->count;
    for (i = 0; i < l->count; i++)
        if (!l->list[i].excepted)
            json_array_append_new(c->list, conflict_json(a, &l->list[i]));
    json_array_foreach(c->list, i, v) if (!has(before, v)) tell_new(a, v);
    if (json_array_size(before) && !json_array_size(c->list)) {
        log_notice(NULL, "no other firewall is in the way any more");
        drift_tell(a, "ok", NULL, json_array(), NULL);
    }
}

void conflicts_look(struct agent *a)
{
    struct conflict_look *l = mem_new(struct conflict_look);

    l->agent = a;
    lane_submit(a->net_lane, run, l, on_looked);
}

bool conflicts_possible(const struct agent *a)
{
    return a->conflicts && a->conflicts->chains > 0;
}

json_t *conflicts_json(const struct agent *a)
{
    return a->conflicts ? json_incref(a->conflicts->list) : json_array();
}

void conflicts_free(struct conflicts *c)
{
    if (!c)
        return;
    json_decref(c->list);
    free(c);
}
