/* SPDX-License-Identifier: Apache-2.0 */
/* A rollout on disk, and as it is shown. */
#include "agent/kits/rollout_internal.h"

#include "agent/events/event.h"
#include "base/log.h"
#include "base/str.h"

#define META_KEY "kit_rollout"
enum { RESTARTS_MAX = 3 }; /* without a result in between */

static const char *const states[] = {"running", "stopping", "failing",     "completed",
                                     "stopped", "failed",   "interrupted", NULL};

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

void rollout_record(struct rollout *r, const char *event, void *owner, agent_done_fn *done)
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
        .state = s.state <= ROLLOUT_FAILING && s.restarts >= RESTARTS_MAX ? ROLLOUT_INTERRUPTED : s.state,
        .total = s.total,
        .started_at = s.started_at,
        .ended_at = s.ended_at,
        .restarts = s.restarts + 1,
        .results = s.results,
        .active = s.active ? s.active : json_object(),
        .undo = s.undoing,
    };
}
