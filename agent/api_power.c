/* SPDX-License-Identifier: Apache-2.0 */
/* POST /containers/{id}/{operation}: the table of what is allowed in which state (contract, section 3.2). */
#include "agent/api.h"
#include "base/str.h"

enum power { START, STOP, FORCE_STOP, RESTART, PAUSE, RESUME, POWER_MAX };

static const struct {
    const char *word;
    const struct op_kind *kind;
    const char *done;
} powers[POWER_MAX] = {
    [START] = {"start", &op_start, "Container started successfully"},
    [STOP] = {"stop", &op_stop, "Container stopped successfully"},
    [FORCE_STOP] = {"force-stop", &op_force_stop, "Container stopped forcefully"},
    [RESTART] = {"restart", &op_restart, "Container restarted successfully"},
    [PAUSE] = {"pause", &op_pause, "Container paused successfully"},
    [RESUME] = {"resume", &op_resume, "Container resumed successfully"},
};

/* NULL: allowed. Else the refusal. A busy container is refused before this is asked. */
static const char *const refusals[POWER_MAX][CONTAINER_STATUS_MAX] = {
    [START] =
        {[CONTAINER_RUNNING] = "Container is already running", [CONTAINER_PAUSED] = "Container is paused: resume it"},
    [STOP] = {[CONTAINER_STOPPED] = "Container is already stopped",
              [CONTAINER_PAUSED] = "Container is paused: resume it first, or force-stop it",
              [CONTAINER_FAILED] = "Container has failed and does not run"},
    [FORCE_STOP] = {[CONTAINER_STOPPED] = "Container is already stopped"},
    [RESTART] = {[CONTAINER_PAUSED] = "Container is paused: resume it first",
                 [CONTAINER_FAILED] = "Container has failed: delete it"},
    [PAUSE] = {[CONTAINER_PAUSED] = "Container is already paused",
               [CONTAINER_STOPPED] = "Container is not running",
               [CONTAINER_FAILED] = "Container is not running"},
    [RESUME] = {[CONTAINER_RUNNING] = "Container is not paused",
                [CONTAINER_STOPPED] = "Container is not paused",
                [CONTAINER_FAILED] = "Container is not paused"},
};

struct power_body {
    int64_t timeout;
};
static const struct json_field body_fields[] = {
    F_INT(struct power_body, timeout, .nullable = true, .min = 1, .max = 600),
};
static JSON_TABLE(body_table, NULL, body_fields);

static json_t *report(const struct container *c, const char *word, bool error, const char *message)
{
    return json_pack("{s:b, s:s, s:s, s:s, s:s, s:s}", "error", error, "operation", word, "container_id", c->record.id,
                     "project_id", c->record.project_id, "message", message, "status", container_status_word(c));
}

static void refuse(struct http_request *req, const struct container *c, const char *word, struct err *e)
{
    json_t *data = report(c, word, true, err_message(e));

    reply_err(req, err_data(e, data));
}

void container_operation_refuse(struct api_call *call, struct err *e)
{
    refuse(call->req, call->container, call->params[1], e);
}

static void done(struct operation *op, struct err *e)
{
    size_t i = 0;
    json_t *data;

    while (powers[i].kind != op->kind)
        i++;
    if (e) {
        if (e->code != ERR_TIMEOUT)
            e = err_reason(err_recode(e, ERR_HOST), "CONTAINER_HOST_COMMAND_FAILED");
        refuse(op->req, op->container, powers[i].word, e);
        return;
    }
    data = report(op->container, powers[i].word, false, powers[i].done);
    json_object_set_new(data, "operation_id", json_string(op->id));
    reply_ok(op->req, 200, "Container operation completed successfully", data);
}

static struct err *check(const struct api_call *call, enum power power, struct power_body *body)
{
    const struct container *c = call->container;
    struct err *e = json_table_load(&body_table, call->body, body, NULL);

    if (e)
        return e;
    if (c->record.status == CONTAINER_DELETING)
        return err_reason(err_new(ERR_BUSY, "The container is being deleted"), "container_finalizing");
    e = operation_check_free(c, powers[power].word);
    if (e)
        return e;
    if (refusals[power][c->record.status])
        return err_reason(err_new(ERR_WRONG_STATE, "%s", refusals[power][c->record.status]),
                          "OPERATION_STATE_CONFLICT");
    return NULL;
}

void container_operation(struct api_call *call)
{
    struct container *c = call->container;
    struct power_body body = {0};
    enum power power = START;
    struct operation *op;
    struct err *e;

    while (power < POWER_MAX && !str_eq(powers[power].word, call->params[1]))
        power++;
    if (power == POWER_MAX) {
        e = err_field("operation", "must be one of start, stop, force-stop, restart, pause, resume");
        container_operation_refuse(call, e);
        return;
    }
    e = check(call, power, &body);
    if (e) {
        container_operation_refuse(call, e);
        return;
    }
    op = operation_new(call->agent, powers[power].kind, c,
                       body.timeout ? json_pack("{s:I}", "timeout_ms", (json_int_t)body.timeout * 1000) : NULL, "user");
    op->req = call->req;
    op->done = done;
    if (power == STOP || power == FORCE_STOP)
        c->record.wanted_running = false;
    operation_start(op, NULL);
}
