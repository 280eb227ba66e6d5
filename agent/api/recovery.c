/* SPDX-License-Identifier: Apache-2.0 */
/* What does not agree between database and pool, and what an operator decides about it (recovery/recovery.h). */
#include <signal.h>
#include <unistd.h>

#include "agent/api/api.h"
#include "agent/recovery/recovery.h"
#include "base/log.h"

enum { RECOVERY_RETRY, RECOVERY_ADOPT, RECOVERY_ACCEPT };
static const char *const actions[] = {"retry", "adopt", "accept", NULL};

struct recovery_body {
    int action;
};
static const struct json_field body_fields[] = {
    F_ENUM(struct recovery_body, action, actions, .required = true),
};
static JSON_TABLE(body_table, NULL, body_fields);

void recovery_get(struct api_call *call)
{
    const struct agent *a = call->agent;

    reply_ok(call->req, 200, "Recovery retrieved successfully", judgement_json(a, a->judgement));
}

struct decision {
    struct agent *agent;
    struct http_request *req;
    int action;
    size_t adopted;
};

static struct err *carry_out(void *arg)
{
    struct decision *d = arg;

    if (d->action == RECOVERY_ADOPT)
        return adopt_rows(d->agent, d->agent->judgement, &d->adopted);
    return d->action == RECOVERY_ACCEPT ? accept_rows(d->agent, d->agent->judgement) : NULL;
}

/* The daemon starts anew, with the database as it is now. */
static void on_carried_out(void *arg, struct err *e)
{
    struct decision *d = arg;

    if (e) {
        reply_host_err(d->req, e);
    } else {
        log_notice(NULL, "recovery: %s, %zu containers from the pool; noded starts anew", actions[d->action],
                   d->adopted);
        reply_ok(d->req, 202, "The node starts anew",
                 json_pack("{s:s, s:I}", "action", actions[d->action], "adopted", (json_int_t)d->adopted));
        d->agent->again = true;
        (void)kill(getpid(), SIGTERM);
    }
    free(d);
}

static struct err *check(const struct agent *a, int action)
{
    const struct judgement *j = a->judgement;
    bool database = j->reason == HOLD_DATABASE_LOST || j->reason == HOLD_DATABASE_OLD;

    if (!a->ready && !a->held)
        return err_new(ERR_UNAVAILABLE, "The node is starting; ask again");
    if (action == RECOVERY_ADOPT && !database && j->reason != HOLD_NONE)
        return err_new(ERR_CONFLICT, "There is nothing to adopt: %s; %s", hold_message(j), hold_remedy(j->reason));
    if (action == RECOVERY_ACCEPT && j->reason == HOLD_NONE)
        return err_new(ERR_CONFLICT, "The node is not held: there is nothing to accept");
    return action == RECOVERY_ACCEPT ? accept_check(j) : NULL;
}

void recovery_decide(struct api_call *call)
{
    struct agent *a = call->agent;
    struct recovery_body b = {0};
    struct decision *d;
    struct err *e = json_table_load(&body_table, call->body, &b, NULL);

    if (!e)
        e = check(a, b.action);
    if (e) {
        reply_err(call->req, e->reason || e->code != ERR_CONFLICT ? e : err_reason(e, "OPERATION_STATE_CONFLICT"));
        return;
    }
    d = mem_new(struct decision);
    *d = (struct decision){.agent = a, .req = call->req, .action = b.action};
    lane_submit(a->store_lane, carry_out, d, on_carried_out);
}
