/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/network/ipv6.h"

#include "base/log.h"
#include "netfilter/netfilter.h"

struct bringing {
    struct agent *agent;
    size_t pending;
    bool failed;
};

struct bringing_one {
    struct bringing *all;
    char id[25];
};

void ipv6_look(struct agent *a)
{
    a->ipv6_off = nf_ipv6_off();
    if (a->ipv6_off)
        log_notice(NULL, "IPv6 is disabled on this host, containers get IPv4 only: %s", a->ipv6_off);
}

const char *ipv6_address(const struct agent *a, const struct container *c)
{
    return a->ipv6_off ? NULL : c->net.ipv6;
}

const char *ipv6_gateway(const struct agent *a)
{
    return a->ipv6_off ? NULL : NET_GATEWAY6;
}

json_t *ipv6_json(const struct agent *a)
{
    return json_pack("{s:b, s:s*}", "enabled", a->ipv6_off == NULL, "reason", a->ipv6_off);
}

static void on_recorded(void *owner, struct err *e)
{
    (void)owner;
    log_err(NULL, LOG_LEVEL_WARNING, e, "whether there is IPv6 is not recorded; the next start looks again");
}

static void leave(struct bringing *b)
{
    struct store_tx *tx;

    if (--b->pending > 0)
        return;
    if (!b->failed) {
        tx = store_tx_new();
        store_tx_add(tx, STORE_META_PUT, json_pack("[s, s]", "ipv6", b->agent->ipv6_off ? "off" : "on"));
        agent_commit(b->agent, tx, NULL, on_recorded);
    }
    free(b);
}

static void on_brought(void *owner, struct err *e, json_t *result)
{
    struct bringing_one *one = owner;
    const struct log_ctx ctx = {.container = one->id};

    json_decref(result);
    if (e && e->code == ERR_WRONG_STATE) { /* it has ended, its next start does it */
        err_free(e);
    } else if (e) {
        one->all->failed = true;
        log_err(&ctx, LOG_LEVEL_WARNING, e, "the container keeps the IPv6 that it had until it is restarted");
    }
    leave(one->all);
    free(one);
}

static void bring_one(struct bringing *b, const struct container *c)
{
    const struct job_ipv6 args = {.wanted = !b->agent->ipv6_off,
                                  .ipv6 = (char *)(uintptr_t)c->net.ipv6,
                                  .gateway6 = (char *)(uintptr_t)NET_GATEWAY6,
                                  .gateway_mac = (char *)(uintptr_t)c->net.mac_host};
    struct bringing_one *one = mem_new(struct bringing_one);

    one->all = b;
    snprintf(one->id, sizeof(one->id), "%s", c->record.id);
    b->pending++;
    agent_job(b->agent, JOB_IPV6, c->record.slot, &args, 0, one, on_brought);
}

void ipv6_bring(struct agent *a)
{
    struct bringing *b;

    if (a->ipv6_was_off == (a->ipv6_off != NULL))
        return;
    b = mem_new(struct bringing);
    *b = (struct bringing){.agent = a, .pending = 1};
    for (size_t i = 0; i < a->container_count; i++)
        if (a->containers[i]->init_pid)
            bring_one(b, a->containers[i]);
    leave(b);
}
