/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/network/egress.h"
#include "agent/network/relay_internal.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"

enum { WAIT_MS = 4000 }; /* for a first verdict about the proxy */

struct relay_status relay_status(const struct container *c)
{
    const struct relay *r = c->relay;

    if (!r)
        return (struct relay_status){.problem = "the relay does not run", .checked_at = clock_wall_ms()};
    if (!r->known)
        return (struct relay_status){.problem = "the proxy has not answered yet"};
    return (struct relay_status){
        .reachable = r->reachable, .problem = r->problem, .checked_at = r->checked_at, .udp = r->udp};
}

static void on_event_recorded(void *owner, struct err *e)
{
    (void)owner;
    log_err(NULL, LOG_LEVEL_ERR, e, "an event is not recorded");
}

void relay_answer_waiter(struct relay *r)
{
    agent_done_fn *done = r->done;

    uv_timer_stop(&r->wait);
    r->done = NULL;
    if (done)
        done(r->owner, NULL);
}

/* A start that finds it working is told of by its operation. */
void relay_learn(struct relay *r, const char *problem, int64_t checked_at)
{
    bool reachable = problem == NULL;
    struct log_ctx ctx = {.container = r->container ? r->container->record.id : NULL};

    if (!r->container || !r->container->egress || r->agent->stopping)
        return;
    if (r->known ? r->reachable != reachable : !reachable) {
        struct store_tx *tx = store_tx_new();

        if (reachable)
            log_notice(&ctx, "the proxy of the container works again");
        else
            log_warning(&ctx, "the container has no way out: %s", problem);
        egress_event(r->agent, tx, r->container, reachable ? "running" : "failed");
        agent_commit(r->agent, tx, NULL, on_event_recorded);
    }
    r->known = true;
    r->reachable = reachable;
    r->checked_at = checked_at;
    str_set(&r->problem, problem);
    relay_answer_waiter(r);
}

static void on_waited(uv_timer_t *timer)
{
    struct relay *r = timer->data;

    if (r->known)
        relay_answer_waiter(r);
    else
        relay_learn(r, "the proxy has not answered in time", clock_wall_ms());
}

void relay_wait(struct container *c, void *owner, agent_done_fn *done)
{
    struct relay *r = c->relay;

    r->owner = owner;
    r->done = done;
    uv_timer_start(&r->wait, on_waited, r->known ? 0 : WAIT_MS, 0);
}

/* A relay speaks with strangers: what it says is cut and cleaned before it gets into logs and replies. */
static char *problem_text(const char *said)
{
    char *text = str_fmt("%.200s", said ? said : "unknown");

    for (char *p = text; *p; p++)
        if ((unsigned char)*p < ' ' || *p == 0x7f || (unsigned char)*p >= 0x80)
            *p = '?';
    return text;
}

void relay_learn_status(struct relay *r, const json_t *status)
{
    autofree char *problem = problem_text(json_string_value(json_object_get(status, "problem")));

    json_decref(r->udp);
    r->udp = json_incref(json_object_get(status, "udp"));
    relay_learn(r, json_is_true(json_object_get(status, "reachable")) ? NULL : problem,
                json_integer_value(json_object_get(status, "checked_at")));
}

void relay_learn_error(struct relay *r, const json_t *error)
{
    autoerr e = err_from_json(error);
    autofree char *problem = problem_text(e->message);

    relay_learn(r, problem, clock_wall_ms());
}
