/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/kits/watch.h"
#include "agent/ticker.h"

#include "agent/events/event.h"
#include "agent/kits/kits.h"
#include "agent/kits/upgrade.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"

enum {
    PERIOD_MS = 100,
    FIRST_MS = 300,
    STEP_MS = 100,
    JOBS_MAX = 2,
    AGAIN_MS = 3000, /* how long a job may take that also starts the services */
    AGAIN_MAX = 3,
    START_TIMES = 3 /* as long as for another version: systemd starts, too */,
    FRESH_MS = 3000
};

struct kit_watch {
    struct agent *agent;
    struct ticker ticker;
    int running;
};

/* Of a container, as long as one init lives. */
struct kit_look {
    int64_t init_pid, begun_ms, due_ms;
    int64_t since_ms; /* of the wall clock: what times are counted from */
    int attempts;
    bool again; /* their files were gone: systemd is told to start them */
    bool asking, over;
    bool ready;       /* all of them were; since its start, if that was seen: */
    int64_t ready_ms; /* else 0 */
    bool fresh;       /* seen from its start on: times mean something */
};

struct question {
    struct kit_watch *watch;
    char *id;
    int64_t init_pid, begun_ms;
};

static const char *text(const json_t *object, const char *member)
{
    return json_string_value(json_object_get(object, member));
}

void kit_watch_forget(struct container *c)
{
    free(c->kit_look);
    c->kit_look = NULL;
    json_decref(c->kit_health);
    c->kit_health = NULL;
}

static void begin(const struct agent *a, struct container *c)
{
    int64_t now = clock_mono_ms();

    kit_watch_forget(c);
    c->kit_look = mem_new(struct kit_look);
    *c->kit_look = (struct kit_look){.init_pid = c->init_pid,
                                     .begun_ms = now,
                                     .due_ms = now + FIRST_MS,
                                     .since_ms = c->record.started_at,
                                     .fresh = c->record.started_at >= a->started_at &&
                                              clock_wall_ms() - c->record.started_at < FRESH_MS};
}

static const json_t *known_of(const struct container *c, const json_t *service)
{
    const json_t *v;
    size_t i;

    json_array_foreach(c->kit_health, i, v)
    {
        if (str_eq(text(v, "kit"), text(service, "kit")) && str_eq(text(v, "slug"), text(service, "slug")) &&
            str_eq(text(v, "version"), text(service, "version")))
            return v;
    }
    return NULL;
}

/* Times are of the first answer, counted from the start; what may still come is no failure yet. Whether all are ready.
 */
static bool settle(const struct container *c, json_t *services, int64_t begun_ms, bool over, json_int_t *ret_ms)
{
    /* When the question began; the service's own time counts from there. */
    json_int_t since = clock_wall_ms() - c->kit_look->since_ms - (clock_mono_ms() - begun_ms);
    bool ready = true;
    json_t *service;
    size_t i;

    *ret_ms = 0;
    json_array_foreach(services, i, service)
    {
        const json_t *known = known_of(c, service);

        if (str_eq(text(service, "state"), "ready")) {
            json_object_set_new(service, "ready_ms",
                                str_eq(text(known, "state"), "ready") ? json_incref(json_object_get(known, "ready_ms"))
                                : c->kit_look->fresh
                                    ? json_integer(since + json_integer_value(json_object_get(service, "ready_ms")))
                                    : json_null());
            *ret_ms = MAX(*ret_ms, json_integer_value(json_object_get(service, "ready_ms")));
            continue;
        }
        ready = false;
        if (!over)
            json_object_set_new(service, "state", json_string("starting"));
    }
    return ready;
}

static void on_told(void *owner, struct err *e)
{
    (void)owner;
    log_err(NULL, LOG_LEVEL_WARNING, e, "the event of a container's kits is not recorded");
}

static void tell(struct agent *a, struct store_tx *with, const struct container *c, json_t *services, bool ready,
                 json_int_t ms)
{
    struct store_tx *tx = with;

    if (!ready)
        log_warning(&(struct log_ctx){.container = c->record.id}, "not all services of its kits are there");
    if (!c->kit_look->fresh)
        return;
    if (!with)
        tx = store_tx_new();
    event_add(a, tx, ready ? "container.kits.ready" : "container.kits.unhealthy", c,
              json_pack("{s:o, s:O}", "ready_ms", ready ? json_integer(ms) : json_null(), "services", services));
    if (!with)
        agent_commit(a, tx, NULL, on_told);
}

void kit_watch_begin(const struct agent *a, struct container *c)
{
    begin(a, c);
}

void kit_watch_again(const struct agent *a, struct container *c)
{
    begin(a, c);
    c->kit_look->since_ms = clock_wall_ms();
    c->kit_look->fresh = c->kit_look->again = true;
    c->kit_look->due_ms = 0;
}

void kit_watch_take(struct agent *a, struct store_tx *tx, struct container *c, json_t *services, int64_t begun_ms)
{
    struct kit_look *look = c->kit_look;
    bool over;
    json_int_t ms;

    if (!look || look->init_pid != c->init_pid || look->over)
        return;
    over = clock_mono_ms() - look->begun_ms > START_TIMES * a->config->health_timeout_s * 1000;
    look->ready = settle(c, services, begun_ms, over, &ms);
    look->ready_ms = ms;
    upgrade_note_health(c, services);
    look->over = look->ready || over;
    if (look->over)
        tell(a, tx, c, services, look->ready, ms);
}

bool kit_watch_is_over(const struct container *c)
{
    return c->kit_look && c->kit_look->over && c->kit_look->init_pid == c->init_pid;
}

bool kit_watch_is_ready(const struct container *c, int64_t *ret_ms)
{
    const struct kit_look *look = c->kit_look;

    *ret_ms = look && look->ready ? look->ready_ms : 0;
    return look && look->ready && look->init_pid == c->init_pid;
}

/* Later and later, and the later the longer it keeps us waiting: others have to be asked, too. */
static int64_t next_due(const struct kit_look *look, int64_t begun_ms)
{
    int64_t now = clock_mono_ms();

    return now + FIRST_MS + STEP_MS * (int64_t)look->attempts + 4 * (now - begun_ms);
}

static void on_asked(void *owner, struct err *e, json_t *result)
{
    struct question *q = owner;
    struct agent *a = q->watch->agent;
    struct container *c = agent_find_any(a, q->id);
    json_t *services = json_object_get(result, "services");

    q->watch->running--;
    if (c && c->kit_look && c->kit_look->init_pid == q->init_pid) {
        c->kit_look->asking = false;
        c->kit_look->attempts++;
        c->kit_look->due_ms = next_due(c->kit_look, q->begun_ms);
        if (services && !c->kits_next)
            kit_watch_take(a, NULL, c, services, q->begun_ms);
    }
    err_ignore(e); /* it ends, or has just ended */
    json_decref(result);
    free(q->id);
    free(q);
}

static void ask(struct kit_watch *w, struct container *c)
{
    const bool again = c->kit_look->again && c->kit_look->attempts < AGAIN_MAX;
    const struct job_kits args = {
        .before = c->record.kits, .kits = c->record.kits, .timeout_ms = again ? AGAIN_MS : 1, .start = again};
    struct question *q = mem_new(struct question);

    *q = (struct question){w, str_dup(c->record.id), c->init_pid, clock_mono_ms()};
    c->kit_look->asking = true;
    w->running++;
    if (again)
        agent_wait_job(w->agent, JOB_KITS, c->record.slot, &args, AGAIN_MS, q, on_asked);
    else
        agent_job(w->agent, JOB_KITS, c->record.slot, &args, 0, q, on_asked);
}

static void on_timer(uv_timer_t *timer)
{
    struct kit_watch *w = timer->data;
    struct agent *a = w->agent;
    int64_t now = clock_mono_ms();

    for (size_t i = 0; i < a->container_count && !a->stopping; i++) {
        struct container *c = a->containers[i];
        bool up = c->record.status == CONTAINER_RUNNING && c->init_pid && json_array_size(c->record.kits) > 0;

        if (!c->init_pid && c->kit_look)
            kit_watch_forget(c);
        if (!up || c->op)
            continue;
        if (!c->kit_look || c->kit_look->init_pid != c->init_pid)
            begin(a, c);
        if (w->running < JOBS_MAX && !c->kit_look->over && !c->kit_look->asking && c->kit_look->due_ms <= now)
            ask(w, c);
    }
}

struct kit_watch *kit_watch_start(struct agent *a)
{
    struct kit_watch *w = mem_new(struct kit_watch);

    w->agent = a;
    ticker_init(&w->ticker, a->loop, w);
    uv_timer_start(&w->ticker.timer, on_timer, PERIOD_MS, PERIOD_MS);
    return w;
}

void kit_watch_close(struct kit_watch *w, void *owner, void (*closed)(void *owner))
{
    ticker_close(&w->ticker, free, owner, closed);
}

/* The state of a unit in a list of look_units(); NULL when it is not there. */
static const char *unit_state(const json_t *units, const char *unit)
{
    const json_t *v;
    size_t i;

    json_array_foreach((json_t *)(uintptr_t)units, i, v)
    {
        if (str_eq(text(v, "unit"), unit))
            return text(v, "active");
    }
    return NULL;
}

json_t *kit_watch_report(const struct container *c, const json_t *units)
{
    json_t *list = json_array(), *service;
    size_t i;

    json_array_foreach(c->kit_health, i, service)
    {
        json_t *one = json_copy(service);
        const char *state = unit_state(units, text(service, "unit"));

        if (state && str_eq(text(one, "state"), "ready") && (str_eq(state, "failed") || str_eq(state, "inactive"))) {
            json_object_set_new(one, "state", json_string("failed"));
            json_object_set_new(one, "error", json_sprintf("unit %s is %s", text(service, "unit"), state));
        }
        json_array_append_new(list, one);
    }
    return list;
}
