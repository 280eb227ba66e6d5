/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/kits/rollout.h"

#include "agent/events/event.h"
#include "agent/kits/upgrade.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"

#define META_KEY "kit_rollout"
enum { RESTARTS_MAX = 3 }; /* without a result in between */

enum state { RUNNING, STOPPING, FAILING, COMPLETED, STOPPED, FAILED, INTERRUPTED };
static const char *const states[] = {"running", "stopping", "failing",     "completed",
                                     "stopped", "failed",   "interrupted", NULL};

struct rollout {
    struct agent *agent;
    struct rollout_request request; /* containers: those that wait */
    int state;                      /* enum state */
    int64_t total, started_at, ended_at;
    json_t *results;
    json_t *active; /* those under way: id -> the kits that it gets */
    json_t *undo;   /* ids that go back after a failure; NULL: it has not come to that */
    int64_t restarts;
    bool resumed;    /* some of the active ones began before a restart */
    bool unrecorded; /* something has happened since it was written down */
};

/* What is recorded. */
struct saved {
    int state;
    int64_t parallel, total, started_at, ended_at, restarts;
    bool rollback, undo;
    json_t *kits, *results, *waiting, *active, *undoing;
};
static const struct json_field saved_fields[] = {
    F_ENUM(struct saved, state, states, .required = true),
    F_INT(struct saved, parallel, .required = true),
    F_INT(struct saved, total, .required = true),
    F_INT(struct saved, started_at, .required = true),
    F_INT(struct saved, ended_at, .required = true),
    F_BOOL(struct saved, rollback, .required = true),
    F_BOOL(struct saved, undo),
    F_JSON(struct saved, kits, .nullable = true, .has_type = true, .type = JSON_ARRAY),
    F_JSON(struct saved, results, .required = true, .has_type = true, .type = JSON_ARRAY),
    F_JSON(struct saved, waiting, .required = true, .has_type = true, .type = JSON_ARRAY),
    F_INT(struct saved, restarts),
    F_JSON(struct saved, active, .nullable = true, .has_type = true, .type = JSON_OBJECT),
    F_JSON(struct saved, undoing, .nullable = true, .has_type = true, .type = JSON_ARRAY),
};
static JSON_TABLE(saved_table, "rollout", saved_fields);

/* One container under way. */
struct flight {
    struct rollout *rollout;
    int64_t begun_ms;
};

static json_t *save(const struct rollout *r)
{
    const struct saved s = {.state = r->state,
                            .parallel = r->request.parallel,
                            .total = r->total,
                            .started_at = r->started_at,
                            .ended_at = r->ended_at,
                            .rollback = r->request.rollback,
                            .undo = r->request.undo,
                            .kits = r->request.kits,
                            .restarts = r->restarts,
                            .results = r->results,
                            .waiting = r->request.containers,
                            .active = r->active,
                            .undoing = r->undo};

    return json_table_save(&saved_table, &s);
}

json_t *rollout_report(const struct agent *a)
{
    const struct rollout *r = a->rollout;
    char started[STR_TIME_SIZE], ended[STR_TIME_SIZE];

    if (!r)
        return NULL;
    return json_pack("{s:s, s:O?, s:b, s:I, s:I, s:I, s:I, s:s, s:s?, s:O}", "state", states[r->state], "kits",
                     r->request.kits, "rollback", r->request.rollback, "parallel", (json_int_t)r->request.parallel,
                     "total", (json_int_t)r->total, "waiting", (json_int_t)json_array_size(r->request.containers),
                     "active", (json_int_t)json_object_size(r->active), "started_at", str_time(r->started_at, started),
                     "ended_at", r->ended_at ? str_time(r->ended_at, ended) : NULL, "results", r->results);
}

static void on_recorded(void *owner, struct err *e)
{
    (void)owner;
    log_err(NULL, LOG_LEVEL_WARNING, e, "how far the rollout is was not recorded");
}

static void record(struct rollout *r, const char *event, void *owner, agent_done_fn *done)
{
    struct store_tx *tx = store_tx_new();
    autojson saved = save(r);

    r->unrecorded = false;
    store_tx_add(tx, STORE_META_PUT, json_pack("[s, o]", META_KEY, store_text(json_incref(saved))));
    if (event)
        event_add_for(r->agent, tx, event, "server", r->agent->node_id, NULL, NULL,
                      json_pack("{s:s, s:I, s:I, s:O?}", "state", states[r->state], "total", (json_int_t)r->total,
                                "done", (json_int_t)json_array_size(r->results), "kits", r->request.kits));
    agent_commit(r->agent, tx, owner, done);
}

/* e passes over; services may be NULL. */
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
    if (failed && r->state == RUNNING)
        r->state = FAILING;
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
    record(r, NULL, NULL, on_recorded);
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
           (r->state == RUNNING || r->undo);
}

static void go_on(struct rollout *r)
{
    static const int ends[] = {[RUNNING] = COMPLETED, [STOPPING] = STOPPED, [FAILING] = FAILED};

    if (r->state == FAILING && r->request.undo && !r->undo && !json_object_size(r->active))
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
            record(r, NULL, NULL, on_recorded);
        return;
    }
    r->state = ends[r->state];
    r->ended_at = clock_wall_ms();
    record(r, "server.rollout.ended", NULL, on_recorded);
}

static bool is_under_way(const struct rollout *r)
{
    return r && r->state <= FAILING;
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

    if (is_under_way(a->rollout)) {
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
    record(r, "server.rollout.started", s, on_started);
    return NULL;
}

struct err *rollout_stop(struct agent *a, void *owner, agent_done_fn *done)
{
    if (!is_under_way(a->rollout))
        return err_reason(err_new(ERR_WRONG_STATE, "No rollout is under way"), "OPERATION_STATE_CONFLICT");
    if (a->rollout->state == RUNNING)
        a->rollout->state = STOPPING;
    record(a->rollout, NULL, owner, done);
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
    if (!is_under_way(a->rollout))
        return;
    log_notice(NULL, "the rollout of kits goes on");
    a->rollout->resumed = true;
    record(a->rollout, NULL, NULL, on_recorded); /* the restart counts */
    rollout_after_operation(a);
}

void rollout_load(struct agent *a, const char *text)
{
    autojson j = text ? json_loads(text, 0, NULL) : NULL;
    struct saved s = {0};
    struct err *e = j ? json_table_load(&saved_table, j, &s, NULL) : NULL;

    if (!text)
        return;
    if (!j || e) {
        log_err(NULL, LOG_LEVEL_WARNING, e, "the record of the last rollout cannot be read");
        return;
    }
    a->rollout = mem_new(struct rollout);
    *a->rollout = (struct rollout){
        .agent = a,
        .request =
            {.kits = s.kits, .rollback = s.rollback, .undo = s.undo, .parallel = s.parallel, .containers = s.waiting},
        .state = s.state <= FAILING && s.restarts >= RESTARTS_MAX ? INTERRUPTED : s.state,
        .total = s.total,
        .started_at = s.started_at,
        .ended_at = s.ended_at,
        .restarts = s.restarts + 1,
        .results = s.results,
        .active = s.active ? s.active : json_object(),
        .undo = s.undoing,
    };
}
