/* SPDX-License-Identifier: Apache-2.0 */
/* Arguments: "before", "kits": arrays of {"name", "version"}. */
#include "agent/kits/kits.h"
#include "agent/events/event.h"
#include "agent/kits/upgrade.h"
#include "agent/operations/steps.h"
#include "base/str.h"

static const char *text(const json_t *object, const char *member)
{
    return json_string_value(json_object_get(object, member));
}

void upgrade_note_health(struct container *c, const json_t *services)
{
    json_t *kept = json_array(), *service;
    size_t i, k;

    json_array_foreach(c->kit_health, i, service)
    {
        const json_t *entry = kits_entry(c->record.kits, text(service, "kit")), *other;
        bool known = entry && str_eq(text(entry, "version"), text(service, "version"));

        json_array_foreach((json_t *)(uintptr_t)services, k, other) known =
            known && !str_eq(text(other, "kit"), text(service, "kit"));
        if (known)
            json_array_append(kept, service);
    }
    json_array_extend(kept, (json_t *)(uintptr_t)services);
    json_decref(c->kit_health);
    c->kit_health = kept;
}

struct err *upgrade_unhealthy(const json_t *services)
{
    const json_t *service;
    size_t i;

    json_array_foreach((json_t *)(uintptr_t)services, i, service)
    {
        if (str_eq(text(service, "state"), "ready"))
            continue;
        return err_reason(err_new(ERR_HOST, "kit %s %s: service %s: %s", text(service, "kit"), text(service, "version"),
                                  text(service, "slug"), text(service, "error")),
                          "KIT_UNHEALTHY");
    }
    return NULL;
}

static void set_next(struct operation *op, json_t *kits)
{
    struct container *c = op->container;

    json_decref(c->kits_next);
    c->kits_next = kits ? json_incref(kits) : NULL;
    c->kits_changes++;
}

static void guard(struct operation *op)
{
    set_next(op, json_object_get(op->args, "kits"));
    step_net_rules(op);
}

static void unguard(struct operation *op)
{
    set_next(op, NULL);
    step_net_rules(op);
}

static void run(struct operation *op, const char *before, const char *kits, worker_done_fn *done)
{
    const struct job_kits args = {.before = json_object_get(op->args, before),
                                  .kits = json_object_get(op->args, kits),
                                  .timeout_ms = op->agent->config->health_timeout_s * 1000};

    /* Until the links are known to be these, a start makes them anew. */
    op->container->record.kits_linked = false;
    /* It waits for services, and nobody else for it. */
    agent_wait_job(op->agent, JOB_KITS, op->container->record.slot, &args, args.timeout_ms, op, done);
}

static void on_applied(void *owner, struct err *e, json_t *result)
{
    struct operation *op = owner;

    if (!e)
        e = upgrade_unhealthy(json_object_get(result, "services"));
    json_decref(op->result);
    op->result = result;
    op_step_done(op, e);
}

static void apply(struct operation *op)
{
    run(op, "before", "kits", on_applied);
}

static void on_reverted(void *owner, struct err *e, json_t *result)
{
    struct operation *op = owner;

    if (e && str_eq(e->reason, "KIT_RESTART_NEEDED")) { /* then nothing was done before either */
        err_free(e);
        e = NULL;
    }
    op->container->record.kits_linked = !e;
    if (!e)
        upgrade_note_health(op->container, json_object_get(result, "services"));
    json_decref(result);
    op_step_done(op, e);
}

static void revert(struct operation *op)
{
    run(op, "kits", "before", on_reverted);
}

static void take_over(struct operation *op)
{
    struct container_record *r = &op->container->record;

    json_decref(r->kits);
    r->kits = json_incref(json_object_get(op->args, "kits"));
    set_next(op, NULL);
    step_net_rules(op);
}

static void give_back(struct operation *op)
{
    struct container_record *r = &op->container->record;

    json_decref(r->kits);
    r->kits = json_incref(json_object_get(op->args, "before"));
    op_step_done(op, NULL);
}

static json_t *payload(const struct operation *op)
{
    const json_t *services = json_object_get(op->result, "services");

    return json_pack("{s:O, s:O, s:o}", "from", json_object_get(op->args, "before"), "to",
                     json_object_get(op->args, "kits"), "services",
                     services ? json_incref((json_t *)(uintptr_t)services) : json_array());
}

static void upgraded(struct operation *op, struct store_tx *tx)
{
    struct container *c = op->container;

    c->record.kits_linked = true;
    json_decref(c->record.kits_before);
    c->record.kits_before = json_incref(json_object_get(op->args, "before"));
    upgrade_note_health(c, json_object_get(op->result, "services"));
    event_add(op->agent, tx, "container.kits.changed", c, payload(op));
}

static void failed(struct operation *op, struct store_tx *tx)
{
    json_t *p = payload(op);

    json_object_set_new(p, "error", json_string(err_message(op->error)));
    event_add(op->agent, tx, "container.kits.failed", op->container, p);
}

static const struct op_step steps[] = {
    {0, "guard", guard, unguard},
    {1, "apply", apply, revert},
    {2, "rules", take_over, give_back},
};

const struct op_kind op_kits = {
    .name = "kits",
    .command = "kit upgrade",
    .steps = steps,
    .step_count = ARRAY_LEN(steps),
    .recovery = OP_REDO,
    .status_during = -1,
    .succeed = upgraded,
    .fail = failed,
};

void upgrade_start(struct agent *a, struct container *c, json_t *kits, const char *triggered_by,
                   struct http_request *req, void *owner, void (*done)(struct operation *op, struct err *e))
{
    struct operation *op =
        operation_new(a, &op_kits, c, json_pack("{s:O, s:o}", "before", c->record.kits, "kits", kits), triggered_by);

    op->req = req;
    op->owner = owner;
    op->done = done;
    operation_start(op, NULL);
}
