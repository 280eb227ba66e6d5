/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/storage/scrub.h"
#include "agent/ticker.h"

#include "agent/events/event.h"
#include "agent/stats/usage.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"

#define PART_MS 2000
#define BETWEEN_MS 200
#define BUSY_MS 2000
#define LOOK_MS 600000
#define DAY_MS INT64_C(86400000)
#define REMEDY "restore what the kernel's log names from a snapshot, an export or another node; replace the disk"

enum scrub_state { SCRUB_NEVER, SCRUB_RUNNING, SCRUB_FINISHED, SCRUB_CANCELLED, SCRUB_FAILED };
static const char *const state_words[] = {"never", "running", "finished", "cancelled", "failed", NULL};

struct scrub_record {
    int state;
    int64_t since; /* when the pool was seen first, until it was read first */
    int64_t started_at, ended_at;
    int64_t devid, next;
    int64_t done_bytes, total_bytes, errors, corrected;
    int64_t device_errors; /* that have been told */
    char *problem;
};
static const struct json_field record_fields[] = {
    F_ENUM(struct scrub_record, state, state_words),
    F_INT(struct scrub_record, since),
    F_INT(struct scrub_record, started_at),
    F_INT(struct scrub_record, ended_at),
    F_INT(struct scrub_record, devid),
    F_INT(struct scrub_record, next),
    F_INT(struct scrub_record, done_bytes),
    F_INT(struct scrub_record, total_bytes),
    F_INT(struct scrub_record, errors),
    F_INT(struct scrub_record, corrected),
    F_INT(struct scrub_record, device_errors),
    F_STRING(struct scrub_record, problem, .nullable = true),
};
static JSON_TABLE(record_table, "scrub", record_fields);

struct scrub {
    struct agent *agent;
    struct ticker ticker;
    struct scrub_record record;
    bool working;  /* a job is under way */
    bool stale;    /* the same, of a scrub that was cancelled: its result is nobody's */
    bool recorded; /* there is a row */
};

struct scrub *scrub_new(struct agent *a, const char *text)
{
    struct scrub *s = mem_new(struct scrub);
    autojson record = text ? json_loads(text, 0, NULL) : NULL;

    s->agent = a;
    s->recorded = record != NULL;
    err_ignore(json_table_load(&record_table, record, &s->record, NULL)); /* then it begins anew */
    if (!s->record.since)
        s->record.since = clock_wall_ms();
    return s;
}

void scrub_free(struct scrub *s)
{
    if (!s)
        return;
    json_table_clear(&record_table, &s->record);
    free(s);
}

static void on_recorded(void *owner, struct err *e)
{
    (void)owner;
    log_err(NULL, LOG_LEVEL_ERR, e, "the state of the scrub is not recorded");
}

/* tx may be NULL, done too. */
static void record(struct scrub *s, struct store_tx *tx, void *owner, agent_done_fn *done)
{
    autojson j = json_table_save(&record_table, &s->record);
    autofree char *text = json_dumps(j, JSON_COMPACT);

    tx = tx ? tx : store_tx_new();
    store_tx_add(tx, STORE_META_PUT, json_pack("[s, s]", "scrub", text));
    agent_commit(s->agent, tx, owner, done ? done : on_recorded);
}

static struct store_tx *tell(struct scrub *s, const char *component, int64_t errors)
{
    struct store_tx *tx = store_tx_new();

    log_warning(NULL, "%s of the pool: %lld errors: " REMEDY, component, (long long)errors);
    event_add_for(s->agent, tx, "server.health_changed", "server", s->agent->node_id, NULL, NULL,
                  json_pack("{s:s, s:s, s:I, s:s}", "component", component, "state", "errors", "errors",
                            (json_int_t)errors, "remedy", REMEDY));
    return tx;
}

static void end(struct scrub *s, enum scrub_state state, const char *problem, void *owner, agent_done_fn *done)
{
    struct scrub_record *r = &s->record;
    int64_t errors = r->errors - r->corrected;

    r->state = (int)state;
    r->ended_at = clock_wall_ms();
    str_set(&r->problem, problem);
    log_notice(NULL, "scrub of the pool: %s, %lld MiB, %lld errors, %lld of them corrected%s%s", state_words[state],
               (long long)r->done_bytes >> 20, (long long)r->errors, (long long)r->corrected, problem ? ": " : "",
               problem ? problem : "");
    record(s, errors > 0 ? tell(s, "scrub", errors) : NULL, owner, done);
}

static void on_timer(uv_timer_t *timer);

static void on_part(void *owner, struct err *e, json_t *result)
{
    struct scrub *s = owner;
    struct scrub_record *r = &s->record;

    s->working = false;
    if (s->stale) {
        s->stale = false;
        err_free(e);
        json_decref(result);
        if (!s->agent->stopping)
            uv_timer_start(&s->ticker.timer, on_timer, BETWEEN_MS, 0);
        return;
    }
    if (e && e->code == ERR_BUSY) { /* somebody's own, or a part that a killed noded has left: it ends */
        err_free(e);
        if (!s->agent->stopping)
            uv_timer_start(&s->ticker.timer, on_timer, BUSY_MS, 0);
        return;
    }
    if (e && !s->agent->stopping && r->state == SCRUB_RUNNING)
        end(s, SCRUB_FAILED, err_message(e), NULL, NULL);
    if (!e) {
        r->devid = json_integer_value(json_object_get(result, "devid"));
        r->next = json_integer_value(json_object_get(result, "next"));
        r->done_bytes += json_integer_value(json_object_get(result, "bytes"));
        r->total_bytes = json_integer_value(json_object_get(result, "total_bytes"));
        r->errors += json_integer_value(json_object_get(result, "errors"));
        r->corrected += json_integer_value(json_object_get(result, "corrected"));
    }
    if (!e && r->state == SCRUB_RUNNING && r->devid == 0)
        end(s, SCRUB_FINISHED, NULL, NULL, NULL);
    else if (!e && r->state == SCRUB_RUNNING)
        record(s, NULL, NULL, NULL);
    err_free(e);
    json_decref(result);
    if (!s->agent->stopping)
        uv_timer_start(&s->ticker.timer, on_timer, r->state == SCRUB_RUNNING ? BETWEEN_MS : LOOK_MS, 0);
}

static void part(struct scrub *s)
{
    const struct job_scrub args = {
        .devid = s->record.devid, .next = s->record.next, .rate = s->agent->config->scrub_rate, .budget_ms = PART_MS};

    s->working = true;
    agent_job(s->agent, JOB_SCRUB, 0, &args, 0, s, on_part);
}

static bool due(const struct scrub *s)
{
    int64_t days = s->agent->config->scrub_days;
    const struct scrub_record *r = &s->record;

    return days && clock_wall_ms() - (r->ended_at ? r->ended_at : r->since) > days * DAY_MS;
}

/* What the devices have counted since the pool was made: more than were told is news. */
static void on_usage(void *owner, const json_t *usage)
{
    struct scrub *s = owner;
    json_t *errors = json_object_get(json_object_get(usage, "pool"), "device_errors"), *n;
    int64_t count = 0;
    const char *kind;

    json_object_foreach(errors, kind, n) count += json_integer_value(n);
    if (count <= s->record.device_errors || s->agent->stopping)
        return;
    s->record.device_errors = count;
    record(s, tell(s, "device", count), NULL, NULL);
}

static void on_timer(uv_timer_t *timer)
{
    struct scrub *s = timer->data;

    if (s->agent->stopping || s->working)
        return;
    if (s->record.state == SCRUB_RUNNING) {
        part(s);
        return;
    }
    usage_get(s->agent->usage, s, on_usage);
    if (due(s))
        err_ignore(scrub_begin(s, NULL, NULL));
    else
        uv_timer_start(&s->ticker.timer, on_timer, LOOK_MS, 0);
}

void scrub_start(struct scrub *s)
{
    ticker_init(&s->ticker, s->agent->loop, s);
    uv_timer_start(&s->ticker.timer, on_timer, BETWEEN_MS, 0);
    if (!s->recorded) /* the first one is due by this time, over restarts */
        record(s, NULL, NULL, NULL);
}

struct err *scrub_begin(struct scrub *s, void *owner, agent_done_fn *done)
{
    struct scrub_record *r = &s->record;

    if (r->state == SCRUB_RUNNING)
        return err_new(ERR_CONFLICT, "A scrub of the pool is under way");
    r->state = SCRUB_RUNNING;
    r->started_at = clock_wall_ms();
    r->ended_at = r->devid = r->next = r->done_bytes = r->total_bytes = r->errors = r->corrected = 0;
    str_set(&r->problem, NULL);
    record(s, NULL, owner, done);
    if (!s->working) /* a part of one that was cancelled */
        uv_timer_start(&s->ticker.timer, on_timer, 0, 0);
    return NULL;
}

struct err *scrub_cancel(struct scrub *s, void *owner, agent_done_fn *done)
{
    if (s->record.state != SCRUB_RUNNING)
        return err_new(ERR_WRONG_STATE, "No scrub of the pool is under way");
    s->stale = s->working;
    end(s, SCRUB_CANCELLED, NULL, owner, done);
    return NULL;
}

static json_t *time_or_null(int64_t ms)
{
    char text[STR_TIME_SIZE];

    if (!ms)
        return json_null();
    str_time(ms, text);
    return json_string(text);
}

json_t *scrub_json(const struct scrub *s)
{
    const struct scrub_record *r = &s->record;

    return json_pack("{s:s, s:o, s:o, s:I, s:I, s:I, s:I, s:s?}", "state", state_words[r->state], "started_at",
                     time_or_null(r->started_at), "ended_at", time_or_null(r->ended_at), "done_bytes",
                     (json_int_t)r->done_bytes, "total_bytes", (json_int_t)r->total_bytes, "errors",
                     (json_int_t)r->errors, "corrected", (json_int_t)r->corrected, "problem", r->problem);
}

void scrub_close(struct scrub *s, void *owner, void (*closed)(void *owner))
{
    ticker_close(&s->ticker, NULL, owner, closed);
}
