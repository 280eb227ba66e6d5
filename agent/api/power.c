/* SPDX-License-Identifier: Apache-2.0 */
/*
 * POST /containers/{id}/{operation}: the table of what is allowed in which state (contract, section 3.2). A request
 * that names its operation_id may be repeated: the second one gets the answer of the first, from the events.
 */
#include "agent/api/api.h"
#include "agent/operations/takeover.h"
#include "base/id.h"
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
    char *operation_id;
};
static bool is_operation_id(const char *s)
{
    return strlen(s) == ID_OPERATION_LEN && str_is_made_of(s, "0123456789abcdef", ID_OPERATION_LEN);
}

static const struct json_field body_fields[] = {
    F_INT(struct power_body, timeout, .nullable = true, .min = 1, .max = 600),
    F_STRING(struct power_body, operation_id, .nullable = true, .valid = is_operation_id,
             .rule = "must be 32 hex digits"),
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

static void succeed(struct http_request *req, const struct container *c, enum power power, const char *operation_id)
{
    json_t *data = report(c, powers[power].word, false, powers[power].done);

    json_object_set_new(data, "operation_id", json_string(operation_id));
    reply_ok(req, 200, "Container operation completed successfully", data);
}

static void done(struct operation *op, struct err *e)
{
    enum power power = START;

    while (powers[power].kind != op->kind)
        power++;
    if (!e) {
        succeed(op->req, op->container, power, op->id);
        return;
    }
    if (e->code != ERR_TIMEOUT && !str_eq(e->reason, TAKEN_OVER))
        e = err_reason(err_recode(e, ERR_HOST), "CONTAINER_HOST_COMMAND_FAILED");
    refuse(op->req, op->container, powers[power].word, e);
}

static struct err *check(const struct container *c, enum power power)
{
    struct err *e = container_check_staying(c);

    if (e)
        return e;
    e = power == FORCE_STOP ? operation_check_takeover(c, powers[power].word)
                            : operation_check_free(c, powers[power].word);
    if (e)
        return e;
    if (refusals[power][c->record.status])
        return err_reason(err_new(ERR_WRONG_STATE, "%s", refusals[power][c->record.status]),
                          "OPERATION_STATE_CONFLICT");
    return NULL;
}

/* Intents are kept by the operation's id: it must not be that of another one under way. */
static struct err *check_id(const struct agent *a, const char *operation_id)
{
    for (size_t i = 0; operation_id && i < a->container_count; i++)
        for (const struct operation *op = a->containers[i]->op; op; op = op->successor)
            if (str_eq(op->id, operation_id))
                return err_reason(err_new(ERR_CONFLICT, "This operation_id belongs to another operation"),
                                  "RESOURCE_IN_USE");
    return NULL;
}

/* operation_id may be NULL. */
static void begin(struct agent *a, struct container *c, enum power power, int64_t timeout_s, const char *operation_id,
                  struct http_request *req)
{
    struct operation *op;
    struct err *e = check(c, power);

    if (!e)
        e = check_id(a, operation_id);
    if (e) {
        refuse(req, c, powers[power].word, e);
        return;
    }
    op = operation_new(a, powers[power].kind, c,
                       timeout_s ? json_pack("{s:I}", "timeout_ms", (json_int_t)timeout_s * 1000) : NULL, "user");
    if (operation_id)
        memcpy(op->id, operation_id, sizeof(op->id));
    op->req = req;
    op->done = done;
    if (power == STOP || power == FORCE_STOP)
        c->record.wanted_running = false;
    if (power == FORCE_STOP)
        operation_take_over(op);
    else
        operation_start(op, NULL);
}

/* A request that may be a repetition, while the store is asked. */
struct repeat {
    struct agent *agent;
    struct http_request *req;
    enum power power;
    int64_t timeout_s;
    char *container_id, *operation_id;
    json_t *rows;
};

static struct err *read_end(void *arg)
{
    struct repeat *r = arg;

    return store_query(r->agent->reader, STORE_EVENT_OPERATION, json_pack("[s, s]", r->container_id, r->operation_id),
                       &r->rows);
}

/* As the first one was answered; the status is that of now. */
static void answer_again(const struct repeat *r, const struct container *c)
{
    const char *text = json_string_value(json_object_get(json_array_get(r->rows, 0), "payload"));
    autojson payload = text ? json_loads(text, 0, NULL) : NULL;
    const json_t *error = json_object_get(payload, "error");
    const char *code = json_string_value(json_object_get(error, "code"));
    bool late = str_eq(code, "CONTAINER_HOST_TIMEOUT"), ended = str_eq(code, TAKEN_OVER);

    if (!str_eq(json_string_value(json_object_get(payload, "operation")), powers[r->power].word))
        refuse(r->req, c, powers[r->power].word,
               err_reason(err_new(ERR_CONFLICT, "This operation_id belongs to another operation"), "RESOURCE_IN_USE"));
    else if (!error)
        succeed(r->req, c, r->power, r->operation_id);
    else
        refuse(r->req, c, powers[r->power].word,
               err_reason(err_new(late    ? ERR_TIMEOUT
                                  : ended ? ERR_CONFLICT
                                          : ERR_HOST,
                                  "%s", json_string_value(json_object_get(error, "message"))),
                          late || ended ? code : "CONTAINER_HOST_COMMAND_FAILED"));
}

static void on_end_read(void *arg, struct err *e)
{
    struct repeat *r = arg;
    struct container *c = agent_find(r->agent, r->container_id);

    if (!c && !e)
        e = err_reason(err_new(ERR_NOT_FOUND, "Container not found"), "CONTAINER_NOT_FOUND");
    if (e)
        reply_err(r->req, e);
    else if (json_array_size(r->rows) > 0)
        answer_again(r, c);
    else
        begin(r->agent, c, r->power, r->timeout_s, r->operation_id, r->req);
    json_decref(r->rows);
    free(r->container_id);
    free(r->operation_id);
    free(r);
}

void container_operation(struct api_call *call)
{
    struct container *c = call->container;
    struct power_body body = {0};
    enum power power = START;
    struct repeat *r;
    struct err *e = NULL;

    while (power < POWER_MAX && !str_eq(powers[power].word, call->params[1]))
        power++;
    if (power == POWER_MAX)
        e = err_field("operation", "must be one of start, stop, force-stop, restart, pause, resume");
    if (!e)
        e = json_table_load(&body_table, call->body, &body, NULL);
    if (e) {
        container_operation_refuse(call, e);
        return;
    }
    if (!body.operation_id) {
        begin(call->agent, c, power, body.timeout, NULL, call->req);
        return;
    }
    r = mem_new(struct repeat);
    *r = (struct repeat){.agent = call->agent,
                         .req = call->req,
                         .power = power,
                         .timeout_s = body.timeout,
                         .container_id = str_dup(c->record.id),
                         .operation_id = body.operation_id};
    lane_submit(call->agent->read_lane, read_end, r, on_end_read);
}
