/* SPDX-License-Identifier: Apache-2.0 */
/* The platform's servers (contract, section 2.8): this node is the one that it knows. */
#include <sys/sysinfo.h>

#include "agent/api/api.h"
#include "agent/commands/command.h"
#include "agent/stats/metrics.h"
#include "agent/storage/space.h"
#include "base/str.h"

static json_t *server_to_json(const struct agent *a)
{
    struct sysinfo info = {0};
    struct statvfs fs;

    (void)sysinfo(&info);
    (void)space_pool(a, &fs);
    return json_pack(
        "{s:s, s:s, s:s, s:n, s:s, s:b, s:s, s:s, s:b, s:n, s:I, s:I, s:{s:i, s:f, s:f, s:b}, s:s, s:o}", "id",
        a->node_id, "name", a->node_name, "region", a->config->node_region ? a->config->node_region : "",
        "subserver_name", "status", a->ready ? "online" : "starting", "is_ready", a->ready, "health", "healthy",
        "rental_status", "active", "is_free", 0, "expires_at", "container_count", (json_int_t)agent_shown_count(a),
        "max_containers", (json_int_t)a->config->max_containers, "specs", "cpu_cores", get_nprocs(), "ram_gb",
        (double)info.totalram * info.mem_unit / 1e9, "disk_gb", (double)fs.f_blocks * (double)fs.f_frsize / 1e9,
        "shared_compute", 0, "version", NODED_VERSION, "started_at", api_time(a->started_at));
}

/* Whether the request is about this server; answers it when not. */
static bool is_here(struct api_call *call)
{
    if (str_eq(call->params[0], call->agent->node_id))
        return true;
    reply_err(call->req, err_reason(err_new(ERR_NOT_FOUND, "Server not found"), "RESOURCE_NOT_FOUND"));
    return false;
}

void servers_list(struct api_call *call)
{
    int64_t page = 1, limit = 50;
    json_t *list = json_array();
    struct err *e = query_int(call, "page", 1, INT32_MAX, 1, &page);

    if (!e)
        e = query_int(call, "limit", 1, 100, 50, &limit);
    if (e) {
        json_decref(list);
        reply_err(call->req, e);
        return;
    }
    if (page == 1)
        json_array_append_new(list, server_to_json(call->agent));
    reply_ok(call->req, 200, "Servers retrieved successfully",
             json_pack("{s:o, s:o}", "servers", list, "pagination", api_pagination(1, page, limit)));
}

void server_get(struct api_call *call)
{
    if (is_here(call))
        reply_ok(call->req, 200, "Server retrieved successfully", server_to_json(call->agent));
}

void server_runtime(struct api_call *call)
{
    json_t *figures;

    if (!is_here(call))
        return;
    figures = metrics_get(call->agent->metrics);
    if (figures)
        reply_ok(call->req, 200, "Server runtime retrieved successfully", figures);
    else
        reply_err(call->req,
                  err_reason(err_new(ERR_UNAVAILABLE, "The server's figures cannot be read"), "RUNTIME_UNAVAILABLE"));
}

static json_t *schema_of(const struct command *c, json_t *example)
{
    json_t *properties = json_object(), *required = json_array();

    for (size_t i = 0; i < ARRAY_LEN(c->params) && c->params[i].name; i++) {
        const struct command_param *p = &c->params[i];
        json_t *j = json_pack("{s:s, s:s}", "type", p->integer ? "integer" : "string", "description", p->description);

        if (p->integer) {
            json_object_set_new(j, "minimum", json_integer(p->min));
            json_object_set_new(j, "maximum", json_integer(p->max));
        } else {
            json_object_set_new(j, "pattern", json_string("^[0-9a-f]{24}$"));
        }
        json_object_set_new(example, p->name, p->integer ? json_integer(30) : json_string("0123456789abcdef01234567"));
        json_object_set_new(properties, p->name, j);
        if (p->required)
            json_array_append_new(required, json_string(p->name));
    }
    return json_pack("{s:s, s:o, s:o, s:b}", "type", "object", "properties", properties, "required", required,
                     "additionalProperties", 0);
}

static json_t *command_to_json(const struct command *c)
{
    json_t *example = json_object(), *schema = schema_of(c, example);
    char id[ID_OBJECT_LEN + 1];

    command_id(c, id);
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:b, s:o, s:o, s:I, s:I, s:I, s:I}", "id", id, "name", c->name,
                     "slug", c->slug, "description", c->description, "category", c->category, "risk_level",
                     command_risk_words[c->risk], "requires_confirmation", c->confirm, "parameter_schema", schema,
                     "example_parameters", example, "default_timeout", (json_int_t)c->timeout_s, "cooldown_seconds",
                     (json_int_t)c->cooldown_s, "rate_limit_per_hour", (json_int_t)c->per_hour, "rate_limit_per_day",
                     (json_int_t)c->per_day);
}

void server_commands(struct api_call *call)
{
    const char *category = http_query(call->req, "category");
    json_t *list;
    int risk = RISK_CRITICAL;
    struct err *e;

    if (!is_here(call))
        return;
    e = http_query(call->req, "risk_level") ? query_choice(call, "risk_level", command_risk_words, &risk) : NULL;
    if (e) {
        reply_err(call->req, e);
        return;
    }
    list = json_array();
    for (size_t i = 0; i < command_count; i++)
        if ((int)commands[i].risk <= risk && (!category || str_eq(category, commands[i].category)))
            json_array_append_new(list, command_to_json(&commands[i]));
    reply_ok(call->req, 200, "Commands retrieved successfully",
             json_pack("{s:o, s:{s:s, s:s, s:b, s:s}}", "commands", list, "server_info", "id", call->agent->node_id,
                       "name", call->agent->node_name, "is_ready", call->agent->ready, "rental_status", "active"));
}

struct execute_body {
    char *command_id, *command_slug, *confirmation_token;
    json_t *parameters;
    bool wait;
    int64_t timeout;
};
static const struct json_field execute_fields[] = {
    F_STRING(struct execute_body, command_id, .valid = str_is_object_id, .rule = "must be 24 hex digits"),
    F_STRING(struct execute_body, command_slug, .min = 1, .max = 64),
    F_STRING(struct execute_body, confirmation_token, .nullable = true, .max = 64),
    F_JSON(struct execute_body, parameters, .nullable = true, .has_type = true, .type = JSON_OBJECT),
    F_BOOL(struct execute_body, wait),
    F_INT(struct execute_body, timeout, .nullable = true, .min = 1, .max = 7200),
};
static JSON_TABLE(execute_table, NULL, execute_fields);

static struct err *check_param(const struct agent *a, const struct command_param *p, const json_t *value)
{
    autofree char *field = str_fmt("parameters.%s", p->name);
    json_int_t n = json_integer_value(value);

    if (p->integer)
        return json_is_integer(value) && n >= p->min && n <= p->max
                   ? NULL
                   : err_field(field, "must be %lld..%lld", (long long)p->min, (long long)p->max);
    if (!json_is_string(value) || !str_is_object_id(json_string_value(value)))
        return err_field(field, "must be 24 hex digits");
    if (p->container && !agent_find(a, json_string_value(value)))
        return err_reason(err_new(ERR_NOT_FOUND, "Container not found"), "CONTAINER_NOT_FOUND");
    return NULL;
}

static struct err *check_params(const struct agent *a, const struct command *c, const json_t *given)
{
    json_t *missing = json_array(), *value;
    size_t known = 0;
    struct err *e = NULL;
    const char *key;

    for (size_t i = 0; !e && i < ARRAY_LEN(c->params) && c->params[i].name; i++) {
        value = json_object_get(given, c->params[i].name);
        known += value != NULL;
        if (value)
            e = check_param(a, &c->params[i], value);
        else if (c->params[i].required)
            json_array_append_new(missing, json_string(c->params[i].name));
    }
    if (!e && json_array_size(missing) > 0)
        e = err_data(err_field("parameters", "some are missing"), json_pack("{s:O}", "missing_params", missing));
    if (!e && known < json_object_size(given))
        json_object_foreach((json_t *)(uintptr_t)given, key, value)
        {
            bool found = false;

            for (size_t i = 0; i < ARRAY_LEN(c->params); i++)
                found = found || str_eq(c->params[i].name, key);
            if (!found && !e)
                e = err_field("parameters", "'%.64s' is not one of this command's", key);
        }
    json_decref(missing);
    return e;
}

static struct err *find_command(const struct execute_body *b, const struct command **ret)
{
    if (!b->command_id == !b->command_slug)
        return err_field(b->command_id ? "command_slug" : "command_id",
                         "exactly one of command_id and command_slug must be there");
    *ret = command_find(b->command_id, b->command_slug);
    return *ret ? NULL : err_reason(err_new(ERR_NOT_FOUND, "Command not found"), "RESOURCE_NOT_FOUND");
}

void server_execute(struct api_call *call)
{
    struct execute_body b = {.wait = true};
    const struct command *c = NULL;
    struct err *e;

    if (!is_here(call))
        return;
    e = json_table_load(&execute_table, call->body, &b, NULL);
    if (!e)
        e = find_command(&b, &c);
    if (!e && !b.parameters)
        b.parameters = json_object();
    if (!e)
        e = check_params(call->agent, c, b.parameters);
    if (!e)
        e = command_admit(call->agent, c, b.parameters, b.confirmation_token);
    if (e)
        reply_err(call->req, e);
    else
        command_start(call->agent, c, json_incref(b.parameters), b.timeout ? b.timeout : c->timeout_s, b.wait,
                      call->req);
    json_table_clear(&execute_table, &b);
}

struct log_query {
    struct agent *agent;
    struct http_request *req;
    char *id;
    json_t *rows;
};

static struct err *read_log(void *arg)
{
    struct log_query *q = arg;

    return store_query(q->agent->reader, STORE_COMMAND_GET, json_pack("[s]", q->id), &q->rows);
}

static void answer_log(void *arg, struct err *e)
{
    struct log_query *q = arg;

    if (!e && json_array_size(q->rows) == 0)
        e = err_reason(err_new(ERR_NOT_FOUND, "Command log not found"), "RESOURCE_NOT_FOUND");
    if (e)
        reply_err(q->req, e);
    else
        reply_ok(q->req, 200, "Command log retrieved successfully", command_log_to_json(json_array_get(q->rows, 0)));
    json_decref(q->rows);
    free(q->id);
    free(q);
}

void server_command_log(struct api_call *call)
{
    struct log_query *q;

    if (!is_here(call))
        return;
    q = mem_new(struct log_query);
    *q = (struct log_query){.agent = call->agent, .req = call->req, .id = str_dup(call->params[1])};
    lane_submit(call->agent->read_lane, read_log, q, answer_log);
}
