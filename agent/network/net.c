/* SPDX-License-Identifier: Apache-2.0 */
/* The agent's side of netfilter/: every call becomes a task with copies, run on the network lane. When the table turns
 * out to be gone (a foreign flush), the task is followed by a full sync and tried once more. */
#include "agent/agent.h"

#include "agent/containers/limits.h"
#include "agent/containers/project.h"
#include "agent/containers/proxy.h"
#include "agent/kits/kits.h"
#include "agent/network/drift.h"
#include "agent/network/egress.h"
#include "agent/network/forward.h"
#include "base/failpoint.h"
#include "base/log.h"
#include "base/str.h"

enum net_verb { NET_UP, NET_RULES, NET_DOWN, NET_SYNC, NET_REPAIR, NET_PROJECT, NET_COUNTERS, NET_HITS };

struct net_task {
    struct agent *agent;
    enum net_verb verb;
    struct nf_container *list; /* one; for NET_SYNC all that are up, for NET_PROJECT those of the project */
    struct ruleset **rules;    /* references that list borrows from */
    size_t count;
    struct nf_counters counters;
    bool table;            /* of NET_REPAIR: it too */
    struct nf_drift drift; /* what was wrong */
    void *owner;
    agent_done_fn *done;
    void (*counters_done)(void *owner, struct err *e, const struct nf_counters *counters);
    struct nf_hits *hits[2]; /* by enum rule_direction */
    net_hits_fn *hits_done;
    void (*repair_done)(void *owner, struct err *e, const struct nf_drift *drift);
};

static void add_container(struct net_task *t, const struct container *c, bool closed)
{
    struct nf_container *n;

    t->list = mem_grow(t->list, t->count + 1, sizeof(*t->list));
    t->rules = mem_grow(t->rules, t->count + 1, sizeof(struct ruleset *));
    t->rules[t->count] = ruleset_ref(c->rules);
    n = &t->list[t->count++];
    *n = (struct nf_container){
        .slot = (int)c->record.slot,
        .closed = closed || c->record.spare,
        .way_out = egress_way(c->egress),
        .group = project_group(t->agent, c->record.project_id),
        .limits = limits_of(c),
        .proxy = proxy_is(c),
        .ingress = c->rules->rules[RULE_INGRESS],
        .ingress_count = c->rules->count[RULE_INGRESS],
        .egress = c->rules->rules[RULE_EGRESS],
        .egress_count = c->rules->count[RULE_EGRESS],
    };
    n->kit_ports = kits_ports(t->agent, c, &n->kit_port_count);
    n->forwards = forwards_of(c, &n->forward_count);
}

static struct err *run(void *arg)
{
    struct net_task *t = arg;
    struct nf *nf = t->agent->nf;
    struct err *e = NULL;

    switch (t->verb) {
    case NET_UP:
        e = nf_link_create(nf, t->list[0].slot);
        return e ? e : nf_container_set(nf, &t->list[0]);
    case NET_RULES:
        return nf_container_set(nf, &t->list[0]);
    case NET_DOWN:
        e = nf_container_remove(nf, t->list[0].slot);
        return err_first(e, nf_link_delete(nf, t->list[0].slot));
    case NET_SYNC:
        return nf_sync(nf, t->list, t->count);
    case NET_REPAIR:
        return nf_repair(nf, t->list, t->count, t->table, &t->drift);
    case NET_PROJECT:
        e = failpoint("net.project");
        for (size_t i = 0; !e && i < t->count; i++)
            e = nf_container_set(nf, &t->list[i]);
        return e;
    case NET_COUNTERS:
        return nf_link_counters(nf, t->list[0].slot, &t->counters);
    case NET_HITS:
        return nf_container_hits(nf, &t->list[0], t->hits[RULE_INGRESS], t->hits[RULE_EGRESS]);
    }
    abort();
}

static void task_free(struct net_task *t)
{
    for (size_t i = 0; i < t->count; i++) {
        free((void *)(uintptr_t)t->list[i].kit_ports);
        free((void *)(uintptr_t)t->list[i].forwards);
        ruleset_unref(t->rules[i]);
    }
    for (int d = 0; d < 2; d++)
        free(t->hits[d]);
    free(t->list);
    free(t->rules);
    free(t);
}

/* netfilter/ knows slots; people and clients know containers. */
static struct err *name_container(const struct agent *a, struct err *e)
{
    const json_t *slot = e ? json_object_get(e->data, "slot") : NULL;
    const struct container *c = slot ? agent_find_by_slot(a, json_integer_value(slot)) : NULL;

    if (!c)
        return e;
    return err_data(err_wrap(e, "container %s", c->record.name), json_pack("{s:s}", "container_id", c->record.id));
}

static void finish(struct net_task *t, struct err *e)
{
    e = name_container(t->agent, e);
    if (t->counters_done)
        t->counters_done(t->owner, e, &t->counters);
    else if (t->hits_done)
        t->hits_done(t->owner, e, (const struct nf_hits *const *)t->hits);
    else if (t->repair_done)
        t->repair_done(t->owner, e, &t->drift);
    else
        t->done(t->owner, e);
    task_free(t);
}

static void after_retry(void *arg, struct err *e)
{
    finish(arg, e);
}

static void after_sync(void *owner, struct err *e)
{
    struct net_task *t = owner;

    if (e)
        finish(t, e);
    else
        lane_submit(t->agent->net_lane, run, t, after_retry);
}

/* The kernel has refused the whole table for one container's rules. That must not leave the others without one: it is
 * closed instead, and nothing leaves it, until its rules are set again. False: there is no such container. */
static bool without_culprit(struct net_task *t, const struct err *e)
{
    int slot = (int)json_integer_value(json_object_get(e->data, "slot"));
    size_t i = 0;

    while (i < t->count && t->list[i].slot != slot)
        i++;
    if (i == t->count || !(t->list[i].ingress_count + t->list[i].egress_count))
        return false;
    t->list[i].ingress_count = t->list[i].egress_count = 0;
    t->list[i].closed = true;
    t->list[i].way_out = NF_EGRESS_BLOCKED;
    return true;
}

static void after_run(void *arg, struct err *e)
{
    struct net_task *t = arg;

    if (e && (t->verb == NET_SYNC || t->verb == NET_REPAIR) && without_culprit(t, e)) {
        log_err(NULL, LOG_LEVEL_ERR, name_container(t->agent, e), "a container is closed for its firewall rules");
        lane_submit(t->agent->net_lane, run, t, after_run);
        return;
    }
    if (e && e->code == ERR_NOT_FOUND && (t->verb == NET_UP || t->verb == NET_RULES || t->verb == NET_PROJECT)) {
        err_free(e);
        net_sync(t->agent, t, after_sync);
        return;
    }
    if (e && e->code == ERR_NOT_FOUND && t->verb == NET_DOWN) {
        err_free(e);
        e = NULL; /* gone is what was wanted */
    }
    finish(t, e);
}

static void submit(struct agent *a, enum net_verb verb, const struct container *c, bool closed, void *owner,
                   agent_done_fn *done)
{
    struct net_task *t = mem_new(struct net_task);

    *t = (struct net_task){.agent = a, .verb = verb, .owner = owner, .done = done};
    if (verb == NET_UP)
        drift_link_made(a->drift, (int)c->record.slot);
    if (c)
        add_container(t, c, closed);
    lane_submit(a->net_lane, run, t, after_run);
}

void net_up(struct agent *a, struct container *c, bool closed, void *owner, agent_done_fn *done)
{
    c->link_down = false;
    submit(a, NET_UP, c, closed, owner, done);
}

void net_rules(struct agent *a, struct container *c, bool closed, void *owner, agent_done_fn *done)
{
    submit(a, NET_RULES, c, closed, owner, done);
}

void net_down(struct agent *a, struct container *c, void *owner, agent_done_fn *done)
{
    c->link_down = true;
    submit(a, NET_DOWN, c, true, owner, done);
}

/* All that may be in the kernel; project_id NULL: of every project. */
static void submit_many(struct net_task *t, const char *project_id)
{
    const struct agent *a = t->agent;

    for (size_t i = 0; i < a->container_count; i++) {
        const struct container *c = a->containers[i];

        /* One that an operation holds may have its link already; the operation opens it when it is ready. One that has
         * lost it would get rules that nobody takes away. */
        if (!c->link_down && (container_is_up(c) || c->init_pid || c->op) &&
            (!project_id || str_eq(c->record.project_id, project_id)))
            add_container(t, c, c->op && !c->init_pid);
    }
    lane_submit(a->net_lane, run, t, after_run);
}

void net_sync(struct agent *a, void *owner, agent_done_fn *done)
{
    struct net_task *t = mem_new(struct net_task);

    *t = (struct net_task){.agent = a, .verb = NET_SYNC, .owner = owner, .done = done};
    submit_many(t, NULL);
}

void net_project(struct agent *a, const char *project_id, void *owner, agent_done_fn *done)
{
    struct net_task *t = mem_new(struct net_task);

    *t = (struct net_task){.agent = a, .verb = NET_PROJECT, .owner = owner, .done = done};
    submit_many(t, project_id);
}

void net_repair(struct agent *a, bool table, const struct nf_drift *seen, void *owner,
                void (*done)(void *owner, struct err *e, const struct nf_drift *drift))
{
    struct net_task *t = mem_new(struct net_task);

    *t = (struct net_task){
        .agent = a, .verb = NET_REPAIR, .table = table, .drift = *seen, .owner = owner, .repair_done = done};
    submit_many(t, NULL);
}

void net_counters(struct agent *a, int64_t slot, void *owner,
                  void (*done)(void *owner, struct err *e, const struct nf_counters *counters))
{
    struct net_task *t = mem_new(struct net_task);

    *t = (struct net_task){.agent = a, .verb = NET_COUNTERS, .owner = owner, .counters_done = done};
    t->list = mem_new(struct nf_container);
    t->rules = mem_new_array(struct ruleset *, 1);
    t->list[0].slot = (int)slot;
    t->count = 1;
    lane_submit(a->net_lane, run, t, after_run);
}

void net_hits(struct agent *a, const struct container *c, void *owner, net_hits_fn *done)
{
    struct net_task *t = mem_new(struct net_task);

    *t = (struct net_task){.agent = a, .verb = NET_HITS, .owner = owner, .hits_done = done};
    add_container(t, c, false);
    for (int d = 0; d < 2; d++)
        t->hits[d] = mem_new_array(struct nf_hits, c->rules->count[d]);
    lane_submit(a->net_lane, run, t, after_run);
}
