/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/commands/command.h"

#include "agent/events/event.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"

enum { OUTPUT_MAX = 262144 };

static const char *const status_words[] = {"running", "completed", "failed"};
enum run_status { RUN_RUNNING, RUN_COMPLETED, RUN_FAILED };

static json_t *id_of(const struct command *c)
{
    char id[ID_OBJECT_LEN + 1];

    command_id(c, id);
    return json_string(id);
}

const char *command_string(const struct command_run *run, const char *name)
{
    return json_string_value(json_object_get(run->parameters, name));
}

int64_t command_integer(const struct command_run *run, const char *name)
{
    return json_integer_value(json_object_get(run->parameters, name));
}

json_t *command_log_to_json(const json_t *row)
{
    int64_t start = json_integer_value(json_object_get(row, "started_at"));
    int64_t end = json_integer_value(json_object_get(row, "ended_at"));
    const char *parameters = json_string_value(json_object_get(row, "parameters"));
    json_t *given = parameters ? json_loads(parameters, 0, NULL) : NULL;

    return json_pack("{s:O, s:o, s:O, s:O, s:o, s:O, s:O, s:o, s:o, s:o}", "command_log_id", json_object_get(row, "id"),
                     "command_id", id_of(command_find(NULL, json_string_value(json_object_get(row, "slug")))),
                     "command_slug", json_object_get(row, "slug"), "status", json_object_get(row, "status"),
                     "parameters", given ? given : json_object(), "output", json_object_get(row, "output"), "exit_code",
                     json_object_get(row, "exit_code"), "execution_time",
                     end > 0 ? json_integer(end - start) : json_null(), "start_time", api_time(start), "end_time",
                     api_time(end));
}

static void run_free(uv_handle_t *h)
{
    struct command_run *run = h->data;

    json_decref(run->parameters);
    json_decref(run->state);
    free(run);
}

/* What the log says in the end. */
struct report {
    struct agent *agent;
    struct http_request *req;
    struct err *error; /* to answer with instead: the time was over */
    json_t *row;
};

static void on_end_recorded(void *owner, struct err *e)
{
    struct report *r = owner;
    bool failed = json_integer_value(json_object_get(r->row, "exit_code")) != 0;

    if (e)
        log_err(NULL, LOG_LEVEL_ERR, e, "the end of a server command is not recorded");
    if (r->req && r->error)
        reply_err(r->req, r->error);
    else if (r->req)
        reply_ok(r->req, 200, failed ? "Command failed" : "Command executed successfully", command_log_to_json(r->row));
    json_decref(r->row);
    free(r);
}

/* Logs and answers; output is what was found out, or why it failed. */
static void end(struct command_run *run, enum run_status status, json_t *output, struct err *answer)
{
    struct agent *a = run->agent;
    struct store_tx *tx = store_tx_new();
    struct report *r = mem_new(struct report);
    int64_t now = MAX(clock_wall_ms(), run->started_ms);
    int exit_code = status == RUN_COMPLETED ? 0 : 1;
    const char *type = exit_code ? "server.command.failed" : "server.command.completed";

    *r = (struct report){.agent = a, .req = steal(&run->req), .error = answer};
    r->row =
        json_pack("{s:s, s:s, s:s, s:o, s:O, s:i, s:I, s:I}", "id", run->log_id, "slug", run->command->slug, "status",
                  status_words[status], "parameters", store_text(json_incref(run->parameters)), "output", output,
                  "exit_code", exit_code, "started_at", (json_int_t)run->started_ms, "ended_at", (json_int_t)now);
    store_tx_add(tx, STORE_COMMAND_END,
                 json_pack("[s, O, i, I, s]", status_words[status], output, exit_code, (json_int_t)now, run->log_id));
    event_add_for(a, tx, type, "server", a->node_id, NULL, command_string(run, "container_id"),
                  json_pack("{s:s, s:o, s:s, s:s, s:i, s:I}", "command_log_id", run->log_id, "command_id",
                            id_of(run->command), "command_slug", run->command->slug, "status", status_words[status],
                            "exit_code", exit_code, "duration_ms",
                            (json_int_t)(clock_mono_us() - run->begun_us) / 1000));
    json_decref(output);
    run->over = true;
    agent_commit(a, tx, r, on_end_recorded);
}

void command_done(struct command_run *run, struct err *e, json_t *output)
{
    char *text = output ? json_dumps(output, JSON_INDENT(2) | JSON_PRESERVE_ORDER) : NULL;

    if (!run->over && e)
        end(run, RUN_FAILED, json_string(err_message(e)), NULL);
    else if (!run->over && text && strlen(text) > OUTPUT_MAX)
        end(run, RUN_FAILED, json_string("the output is too long"), NULL);
    else if (!run->over)
        end(run, RUN_COMPLETED, json_string(text ? text : ""), NULL);
    free(text);
    json_decref(output);
    err_free(e);
    uv_close((uv_handle_t *)&run->timer, run_free);
}

/* What it began goes on to its end, but nobody waits for it any more. */
static void on_late(uv_timer_t *timer)
{
    struct command_run *run = timer->data;

    if (!run->over)
        end(run, RUN_FAILED, json_string("it took too long"),
            err_reason(err_new(ERR_TIMEOUT, "The command took longer than %lld s", (long long)run->timeout_s),
                       "CONTAINER_HOST_TIMEOUT"));
}

static void on_begin_recorded(void *owner, struct err *e)
{
    struct command_run *run = owner;

    if (e) {
        if (run->req)
            reply_err(run->req, e);
        else
            err_free(e);
        uv_close((uv_handle_t *)&run->timer, run_free);
        return;
    }
    uv_timer_start(&run->timer, on_late, (uint64_t)run->timeout_s * 1000, 0);
    run->command->run(run);
}

static void on_begin_recorded_answer(void *owner, struct err *e)
{
    struct command_run *run = owner;
    struct http_request *req = e ? NULL : steal(&run->req);

    if (req)
        reply_ok(req, 202, "Command accepted",
                 json_pack("{s:s, s:o, s:s, s:o}", "command_log_id", run->log_id, "command_id", id_of(run->command),
                           "status", "pending", "estimated_completion",
                           api_time(run->started_ms + run->timeout_s * 1000)));
    on_begin_recorded(run, e);
}

void command_start(struct agent *a, const struct command *c, json_t *parameters, int64_t timeout_s, bool wait,
                   struct http_request *req)
{
    struct command_run *run = mem_new(struct command_run);
    struct store_tx *tx = store_tx_new();

    *run = (struct command_run){.agent = a,
                                .command = c,
                                .parameters = parameters,
                                .req = req,
                                .timeout_s = timeout_s,
                                .started_ms = clock_wall_ms(),
                                .begun_us = clock_mono_us()};
    id_object(run->log_id);
    run->timer.data = run;
    uv_timer_init(a->loop, &run->timer);
    store_tx_add(tx, STORE_COMMAND_ADD,
                 json_pack("[s, s, s, o, I]", run->log_id, c->slug, status_words[RUN_RUNNING],
                           store_text(json_incref(parameters)), (json_int_t)run->started_ms));
    store_tx_add(tx, STORE_COMMAND_TRIM, json_array());
    agent_commit(a, tx, run, wait ? on_begin_recorded : on_begin_recorded_answer);
}
