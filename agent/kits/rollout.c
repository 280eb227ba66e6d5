/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/kits/rollout_internal.h"

#include "agent/events/event.h"
#include "agent/kits/upgrade.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"

/* One container under way. */
struct flight {
    struct rollout *rollout;
    int64_t begun_ms;
};

static void on_recorded(void *owner, struct err *e)
{
    (void)owner;
    log_err(NULL, LOG_LEVEL_WARNING, e, "how far the rollout is was not recorded");
}

/* e is taken over; services may be NULL. */
static void add_result(struct rollout *r, const char *id, const struct container *c, const char *word, int64_t ms,
                       struct err *e, const json_t *services)
{
    json_array_append_new(r->results, json_pack("{s:s, s:s?, s:s, s:I, s:s?, s:o}", "container_id", id, "name",
                                                c ? c->record.name : NULL, "result", word, "duration_ms",
                                                (json_int_t)ms, "error", e ? err_message(e) : NULL, "services",
                                                services ? json_incref((json_t *)(uintptr_t)services) : json_array()));
    err_free(e);
    r->restarts = 0;
    r->unrecorded = true;
}

static void go_on(struct rollout *r);

static void on_upgraded(struct operation *op, struct err *e)
{
    struct flight *f = op->owner;
    struct rollout *r = f->rollout;
    const struct container *c = op->container;
    bool failed = e != NULL;

    add_result(r, c->record.id, c,
               failed    ? "failed"
               : r->undo ? "rolled_back"
                         : "changed",
               clock_mono_ms() - f->begun_ms, e, json_object_get(op->result, "services"));
    free(f);
    json_object_del(r->active, c->record.id);
    if (failed && r->state == ROLLOUT_RUNNING)
        r->state = ROLLOUT_FAILING;
    go_on(r);
}

static struct err *target_of(const struct rollout *r, const struct container *c, json_t **ret)
{
    struct err *e = upgrade_check(c);

    if (e)
        return e;
    if (r->undo != NULL || r->request.rollback) {
        if (!c->record.kits_before)
            return err_new(ERR_WRONG_STATE, "There is nothing to go back to");
        return upgrade_target(r->agent, c, c->record.kits_before, ret);
    }
    return upgrade_target(r->agent, c, r->request.kits, ret);
}

/* What cannot be changed now is passed over: it is as it was, and the report says why. */
static void begin(struct rollout *r, const char *id)
{
    struct container *c = agent_find(r->agent, id);
    struct flight *f;
    json_t *kits = NULL;
    struct err *e = c ? target_of(r, c, &kits) : err_new(ERR_NOT_FOUND, "The container is gone");

    if (e || json_equal(kits, c->record.kits)) {
        add_result(r, id, c, e ? "skipped" : "unchanged", 0, e, NULL);
        json_decref(kits);
        return;
    }
    f = mem_new(struct flight);
    *f = (struct flight){r, clock_mono_ms()};
    json_object_set(r->active, id, kits);
    /* Before the operation is: what a restart finds changed has been changed by this one. */
    rollout_record(r, NULL, NULL, on_recorded);
    upgrade_start(r->agent, c, kits, "system", NULL, f, on_upgraded);
}

/* Those that have been changed, last first. */
static void begin_undo(struct rollout *r)
{
    json_t *result;
    size_t i;

    r->undo = json_array();
    json_array_foreach(r->results, i, result)
    {
        if (str_eq(json_string_value(json_object_get(result, "result")), "changed"))
            json_array_insert(r->undo, 0, json_object_get(result, "container_id"));
    }
}

static bool may_begin(const struct rollout *r)
{
    return !r->agent->stopping && (int64_t)json_object_size(r->active) < r->request.parallel &&
           (r->state == ROLLOUT_RUNNING || r->undo);
}

static void go_on(struct rollout *r)
{
    static const int ends[] = {[ROLLOUT_RUNNING] = ROLLOUT_COMPLETED,
                               [ROLLOUT_STOPPING] = ROLLOUT_STOPPED,
                               [ROLLOUT_FAILING] = ROLLOUT_FAILED};

    if (r->state == ROLLOUT_FAILING && r->request.undo && !r->undo && !json_object_size(r->active))
        begin_undo(r);
    while (may_begin(r)) {
        json_t *list = r->undo ? r->undo : r->request.containers;
        autojson id = json_incref(json_array_get(list, 0));

        if (!id)
            break;
        json_array_remove(list, 0);
        begin(r, json_string_value(id));
    }
    if (json_object_size(r->active) || r->agent->stopping) {
        if (r->unrecorded)
            rollout_record(r, NULL, NULL, on_recorded);
        return;
    }
    r->state = ends[r->state];
    r->ended_at = clock_wall_ms();
    rollout_record(r, "server.rollout.ended", NULL, on_recorded);
}

void rollout_free(struct agent *a)
{
    if (!a->rollout)
        return;
    json_decref(a->rollout->request.kits);
    json_decref(a->rollout->request.containers);
    json_decref(a->rollout->results);
    json_decref(a->rollout->active);
    json_decref(a->rollout->undo);
    free(a->rollout);
    a->rollout = NULL;
}

/* Who asked for it; the rollout waits for the disk as he does. */
struct start {
    struct agent *agent;
    void *owner;
    agent_done_fn *done;
};

static void on_started(void *owner, struct err *e)
{
    struct start *s = owner;

    if (e)
        rollout_free(s->agent);
    else
        go_on(s->agent->rollout);
    s->done(s->owner, e);
    free(s);
}

struct err *rollout_start(struct agent *a, const struct rollout_request *request, void *owner, agent_done_fn *done)
{
    struct start *s;
    struct rollout *r;

    if (rollout_is_under_way(a->rollout)) {
        json_decref(request->kits);
        json_decref(request->containers);
        return err_reason(err_new(ERR_CONFLICT, "A rollout is under way"), "RESOURCE_IN_USE");
    }
    rollout_free(a);
    r = mem_new(struct rollout);
    *r = (struct rollout){.agent = a,
                          .request = *request,
                          .total = (int64_t)json_array_size(request->containers),
                          .started_at = clock_wall_ms(),
                          .results = json_array(),
                          .active = json_object()};
    a->rollout = r;
    s = mem_new(struct start);
    *s = (struct start){a, owner, done};
    rollout_record(r, "server.rollout.started", s, on_started);
    return NULL;
}

struct err *rollout_stop(struct agent *a, void *owner, agent_done_fn *done)
{
    if (!rollout_is_under_way(a->rollout))
        return err_reason(err_new(ERR_WRONG_STATE, "No rollout is under way"), "OPERATION_STATE_CONFLICT");
    if (a->rollout->state == ROLLOUT_RUNNING)
        a->rollout->state = ROLLOUT_STOPPING;
    rollout_record(a->rollout, NULL, owner, done);
    return NULL;
}

/* One that was under way at a restart: its operation has been repeated, or was not begun. */
static void judge(struct rollout *r, const char *id, const struct container *c, const json_t *kits)
{
    json_t *list = r->undo ? r->undo : r->request.containers;

    if (!c)
        add_result(r, id, NULL, "skipped", 0, err_new(ERR_NOT_FOUND, "The container is gone"), NULL);
    else if (json_equal(kits, c->record.kits))
        add_result(r, id, c, r->undo ? "rolled_back" : "changed", 0, NULL, NULL);
    else
        json_array_insert_new(list, 0, json_string(id)); /* once more; a failure shows then */
}

void rollout_after_operation(struct agent *a)
{
    struct rollout *r = a->rollout;
    const char *id;
    json_t *kits;
    void *next;

    if (!r || !r->resumed)
        return;
    json_object_foreach_safe(r->active, next, id, kits)
    {
        const struct container *c = agent_find(a, id);

        if (c && c->op)
            return; /* it is repeated; its end comes here */
        judge(r, id, c, kits);
        json_object_del(r->active, id);
    }
    r->resumed = false;
    go_on(r);
}

void rollout_resume(struct agent *a)
{
    if (!rollout_is_under_way(a->rollout))
        return;
    log_notice(NULL, "the rollout of kits goes on");
    a->rollout->resumed = true;
    rollout_record(a->rollout, NULL, NULL, on_recorded); /* the restart counts */
    rollout_after_operation(a);
}
