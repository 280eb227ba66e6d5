/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/api/api.h"

#include <stdio.h>

#include "agent/api/body.h"
#include "agent/api/route.h"
#include "agent/containers/texts.h"
#include "agent/http/sse.h"
#include "agent/recovery/recovery.h"
#include "base/log.h"
#include "base/str.h"

#define API "/api/v1"
#define C API "/containers/{id}"
#define P API "/projects/{id}"
/* Jobs or pieces that may wait in one queue before changes are refused. */
enum { QUEUE_MAX = 512 };

#define ANYBODY (ROLE_OPERATOR | ROLE_CONTROL_PLANE)

/* Named sub-resources stand before {operation}. */
static const struct route routes[] = {
    {GET, "/healthz", ANYBODY, health_get, .held = true},
    {GET, API "/node", ANYBODY, node_get, .held = true},
    {GET, API "/node/recovery", ANYBODY, recovery_get, .held = true},
    {POST, API "/node/recovery", ROLE_OPERATOR, recovery_decide, .held = true},
    {GET, API "/node/routes", ANYBODY, node_routes},
    {GET, API "/node/routes/stream", ANYBODY, node_routes_stream, .stream = SSE_CONTENT_TYPE},
    {GET, API "/node/transfers", ANYBODY, transfers_get},
    {POST, API "/peer/copies", ROLE_NODE, peer_copies},
    {POST, API "/peer/containers/{id}/stream", ROLE_NODE, peer_stream},
    {DELETE, API "/peer/containers/{id}/copies/{copy}", ROLE_NODE, peer_release},
    {GET, API "/node/pools", ANYBODY, warm_get},
    {GET, API "/node/storage", ANYBODY, storage_get},
    {POST, API "/node/storage/grow", ANYBODY, storage_grow},
    {POST, API "/node/storage/scrub", ANYBODY, storage_scrub},
    {GET, API "/node/kits", ANYBODY, kits_get},
    {POST, API "/node/kits", ROLE_OPERATOR, kits_install},
    {GET, API "/node/kits/rollout", ANYBODY, rollout_get},
    {POST, API "/node/kits/rollout", ANYBODY, rollout_begin},
    {DELETE, API "/node/kits/rollout", ANYBODY, rollout_end},
    {DELETE, API "/node/kits/{name}/{version}", ROLE_OPERATOR, kits_remove, .words = true},
    {GET, API "/node/images", ROLE_OPERATOR, node_images_list},
    {POST, API "/node/images/upload", ROLE_OPERATOR, node_image_upload, .upload = true},
    {POST, API "/node/images/fetch", ROLE_OPERATOR, node_image_fetch},
    {POST, API "/node/images/prune", ROLE_OPERATOR, node_images_prune},
    {GET, API "/node/images/{fingerprint}", ROLE_OPERATOR, node_image_get, .words = true},
    {PUT | PATCH, API "/node/images/{fingerprint}", ROLE_OPERATOR, node_image_update, .words = true},
    {DELETE, API "/node/images/{fingerprint}", ROLE_OPERATOR, node_image_delete, .words = true},
    {GET, API "/events", ANYBODY, events_list},
    {DELETE, API "/events", ANYBODY, events_delete},
    {GET, API "/events/stats", ANYBODY, events_stats},
    {GET, API "/events/stream", ANYBODY, events_stream, .stream = SSE_CONTENT_TYPE},
    {POST, API "/events/cleanup", ANYBODY, events_cleanup},
    {GET, API "/events/{id}", ANYBODY, event_get},
    {DELETE, API "/events/{id}", ANYBODY, event_delete},
    {GET, API "/servers", ANYBODY, servers_list},
    {GET, API "/servers/{id}", ANYBODY, server_get},
    {GET, API "/servers/{id}/runtime", ANYBODY, server_runtime},
    {GET, API "/servers/{id}/available-commands", ANYBODY, server_commands},
    {POST, API "/servers/{id}/execute-command", ANYBODY, server_execute},
    {GET, API "/servers/{id}/command-logs/{logId}", ANYBODY, server_command_log},
    {GET, API "/images/public", ANYBODY, images_public},
    {GET, API "/images/user", ANYBODY, images_user},
    {GET, API "/images/public/{id}", ANYBODY, image_get},
    {GET, API "/images/{id}/icon", ANYBODY, image_icon},
    {POST, API "/images/import/{id}", ANYBODY, image_market},
    {POST, API "/images/purchase/{id}", ANYBODY, image_market},
    {POST, API "/images/rate/{id}", ANYBODY, image_market},
    {GET, API "/containers", ANYBODY, containers_list},
    {GET, API "/projects", ANYBODY, projects_list},
    {POST, API "/projects", ANYBODY, projects_create},
    {GET, P, ANYBODY, projects_get},
    {PUT | PATCH, P, ANYBODY, projects_update},
    {DELETE, P, ANYBODY, projects_delete},
    {GET, P "/stats", ANYBODY, projects_stats},
    {GET, P "/network", ANYBODY, project_network_get},
    {PUT | PATCH, P "/network", ANYBODY, project_network_set},
    {GET, P "/containers", ANYBODY, containers_list_project},
    {POST, P "/containers", ANYBODY, container_create},
    {POST, P "/containers/import", ROLE_OPERATOR, container_import, .upload = true},
    {GET, C, ANYBODY, container_get},
    {GET, C "/export", ROLE_OPERATOR, container_export, .stream = "application/zstd"},
    {POST, C "/publish", ROLE_OPERATOR, container_publish},
    {PUT | PATCH, C, ANYBODY, container_update},
    {DELETE, C, ANYBODY, container_delete},
    {PUT | PATCH, C "/kvm", ANYBODY, container_kvm},
    {POST, C "/authorize", ANYBODY, container_authorize},
    {POST, C "/copy", ANYBODY, container_copy},
    {POST, C "/sync", ANYBODY, container_sync},
    {GET, C "/status-logs", ANYBODY, container_status_logs},
    {GET, C "/stats", ANYBODY, container_stats},
    {GET, C "/env", ANYBODY, env_list},
    {PUT | PATCH, C "/env", ANYBODY, env_bulk},
    {PUT | PATCH, C "/env/{key}", ANYBODY, env_set},
    {DELETE, C "/env/{key}", ANYBODY, env_delete},
    {GET, C "/snapshots", ANYBODY, snapshots_list},
    {POST, C "/snapshots", ANYBODY, snapshot_create},
    {PUT | PATCH, C "/snapshots/{name}", ANYBODY, snapshot_restore, .slashes = true},
    {PUT | PATCH, C "/snapshots/{name}/alias", ANYBODY, snapshot_alias, .slashes = true},
    {DELETE, C "/snapshots/{name}", ANYBODY, snapshot_delete, .slashes = true},
    {GET, C "/firewall/rules", ANYBODY, firewall_list},
    {POST, C "/firewall/{direction}", ANYBODY, firewall_add, .choices = {"ingress", "egress"}},
    {PATCH, C "/firewall/{direction}", ANYBODY, firewall_toggle, .choices = {"ingress", "egress"}},
    {DELETE, C "/firewall/{direction}", ANYBODY, firewall_remove, .choices = {"ingress", "egress"}},
    {POST, C "/firewall/reset", ANYBODY, firewall_reset},
    {GET, C "/network", ANYBODY, network_get},
    {PUT | PATCH, C "/network", ANYBODY, network_set},
    {DELETE, C "/network", ANYBODY, network_delete},
    {POST, C "/network/{operation}", ANYBODY, network_power, .choices = {"start", "stop"}},
    {GET, C "/forwards", ANYBODY, forwards_list},
    {POST, C "/forwards", ANYBODY, forwards_add},
    {DELETE, C "/forwards/{protocol}/{port}", ANYBODY, forwards_remove},
    {GET, C "/limits", ANYBODY, limits_get},
    {PUT | PATCH, C "/limits", ANYBODY, limits_set},
    {DELETE, C "/limits", ANYBODY, limits_delete},
    {GET, C "/kits", ANYBODY, container_kits_get},
    {PUT | PATCH, C "/kits", ANYBODY, container_kits_set},
    {GET, C "/transparent-proxy", ROLE_OPERATOR, proxy_get},
    {PUT | PATCH, C "/transparent-proxy", ROLE_OPERATOR, proxy_set},
    {GET, C "/storage/shares", ANYBODY, shares_list},
    {POST, C "/storage/shares", ANYBODY, share_create},
    {GET, C "/storage/shares/{share}", ANYBODY, share_get},
    {PATCH, C "/storage/shares/{share}", ANYBODY, share_update},
    {GET, C "/storage/incoming", ANYBODY, incoming_list},
    {PATCH, C "/storage/incoming/{share}/mount", ANYBODY, incoming_mount},
    {GET, API "/storage/shares", ANYBODY, shares_list_all},
    {DELETE, API "/storage/shares/{share}", ANYBODY, share_delete},
    {GET, API "/storage/incoming", ANYBODY, incoming_list_all},
    {POST, C "/{operation}", ANYBODY, container_operation,
     .choices = {"start", "stop", "force-stop", "restart", "pause", "resume"}, .refuse = container_operation_refuse},
    {POST, C "/{operation}", ANYBODY, container_operation, .refuse = container_operation_refuse, .fallback = true},
};

void reply_ok(struct http_request *req, int status, const char *message, json_t *data)
{
    http_reply(
        req, status,
        json_pack("{s:i, s:s, s:o}", "statusCode", status, "message", message, "data", data ? data : json_null()), NULL,
        NULL);
}

void reply_ok_text(struct http_request *req, const char *message, const char *data)
{
    struct text_buffer b = {0};

    text_add_format(&b, "{\"statusCode\":200,\"message\":\"%s\",\"data\":", message);
    text_add(&b, data, strlen(data));
    text_add(&b, "}", 1);
    http_reply_text(req, 200, b.text, b.len);
}

void reply_err(struct http_request *req, struct err *e)
{
    int status = err_code_status(e->code);
    const char *word = e->reason ? e->reason : err_code_word(e->code);
    json_t *body =
        json_pack("{s:i, s:s, s:s, s:O?}", "statusCode", status, "error", word, "message", e->message, "data", e->data);
    char seconds[16];

    /* VALIDATION_ERROR and what is not a code of its own keep the HTTP word in "error"; "code" serves clients either
     * way. */
    if (str_eq(e->reason, "VALIDATION_ERROR") || str_eq(e->reason, "OPERATION_STATE_CONFLICT"))
        json_object_set_new(body, "error", json_string(err_code_word(e->code)));
    if (e->reason)
        json_object_set_new(body, "code", json_string(e->reason));
    if (e->field)
        json_object_set_new(body, "field", json_string(e->field));
    if (status >= 500)
        log_warning(NULL, "%s %s: %s", http_method(req), http_path(req), e->message);
    snprintf(seconds, sizeof(seconds), "%d", e->retry_after_s);
    if (e->code == ERR_METHOD) {
        http_reply(req, status, body, "Allow", e->field);
    } else if (e->retry_after_s > 0) {
        http_reply(req, status, body, "Retry-After", seconds);
    } else {
        http_reply(req, status, body, NULL, NULL);
    }
    err_free(e);
}

void reply_host_err(struct http_request *req, struct err *e)
{
    /* The request was right: whatever went wrong then is the host's fault, not the client's. */
    if (err_code_status(e->code) < 500)
        e = err_recode(e, ERR_HOST);
    reply_err(req, e->reason ? e : err_reason(e, "CONTAINER_HOST_COMMAND_FAILED"));
}

/* HEAD is GET: libmicrohttpd leaves the body out. */
static enum api_verb verb_of(const char *method)
{
    if (str_eq(method, "HEAD"))
        return GET;
    for (int verb = GET; verb <= DELETE; verb <<= 1)
        if (route_has_verb(verb, method))
            return (enum api_verb)verb;
    return 0;
}

bool api_is_upload(void *owner, const char *method, const char *path)
{
    const struct route *route = NULL;
    char *params[3] = {0};

    (void)owner;
    err_ignore(route_find(routes, ARRAY_LEN(routes), (int)verb_of(method), path, params, &route));
    for (size_t i = 0; i < ARRAY_LEN(params); i++)
        free(params[i]);
    return route && route->upload;
}

bool api_print_routes(void)
{
    char verbs[ROUTE_VERBS_SIZE];

    for (size_t i = 0; i < ARRAY_LEN(routes); i++)
        if (!routes[i].fallback) {
            printf("%s %s", route_verbs(routes[i].verbs, ",", verbs), routes[i].path);
            for (size_t k = 0; k < ARRAY_LEN(routes[i].choices) && routes[i].choices[k]; k++)
                printf("%c%s", k ? '|' : ' ', routes[i].choices[k]);
            putchar('\n');
        }
    return fflush(stdout) == 0;
}

static struct err *find_container(struct api_call *call, const struct route *route)
{
    if (!call->params[0] || route->words)
        return NULL;
    for (char *p = call->params[0]; *p; p++)
        if (*p >= 'A' && *p <= 'F')
            *p = (char)(*p - 'A' + 'a');
    if (!str_is_object_id(call->params[0]))
        return err_reason(err_field("id", "must be 24 hex digits"), "INVALID_ID_FORMAT");
    if (strncmp(route->path, C, strlen(C)) != 0)
        return NULL;
    call->container = agent_find(call->agent, call->params[0]);
    if (!call->container && route->handler == snapshot_create && agent_find_any(call->agent, call->params[0]))
        return err_reason(err_field("id", "is of a spare container, which has no snapshots"),
                          "SNAPSHOT_PRESPAWN_FORBIDDEN");
    if (!call->container)
        return err_reason(err_new(ERR_NOT_FOUND, "Container not found"),
                          route->handler == container_copy ? "SOURCE_CONTAINER_NOT_FOUND" : "CONTAINER_NOT_FOUND");
    return NULL;
}

/* Not an empty list and not a 404: what the node has is not known. */
static struct err *held(const struct agent *a)
{
    const struct judgement *j = a->judgement;

    return err_reason(err_new(ERR_UNAVAILABLE, "The node is held: %s; %s", hold_message(j), hold_remedy(j->reason)),
                      "NODE_HELD");
}

static void forget_params(struct api_call *call)
{
    for (size_t i = 0; i < ARRAY_LEN(call->params); i++)
        free(steal(&call->params[i]));
}

static struct err *prepare(struct api_call *call, const struct route **ret)
{
    struct err *e = api_elsewhere(http_path(call->req));

    if (!e)
        e = route_find(routes, ARRAY_LEN(routes), (int)call->verb, http_path(call->req), call->params, ret);
    if (!e && !((*ret)->roles & (int)http_peer(call->req)->role))
        e = err_reason(err_new(ERR_FORBIDDEN, "This certificate may not do that"), "INSUFFICIENT_PERMISSIONS");
    if (!e && call->agent->held && !(*ret)->held)
        e = held(call->agent);
    return e ? e : find_container(call, *ret);
}

/* e: why the request is refused; is taken over, like the call's body. route is NULL when none was found. */
static void answer(struct api_call *call, const struct route *route, struct err *e)
{
    const struct agent *a = call->agent;

    if (!e && call->verb != GET &&
        (workers_count(a->workers) > QUEUE_MAX || lane_length(a->store_lane) > QUEUE_MAX ||
         lane_length(a->net_lane) > QUEUE_MAX)) {
        e = err_new(ERR_UNAVAILABLE, "Too much work is waiting; ask again");
        e->retry_after_s = 2;
    }
    if (!e && a->stopping) {
        e = err_new(ERR_UNAVAILABLE, "The node agent is restarting; ask again");
        e->retry_after_s = 1;
    }
    if (!e && route->stream && str_eq(http_method(call->req), "HEAD"))
        http_reply_head(call->req, route->stream);
    else if (!e)
        route->handler(call);
    else if (route && route->refuse && call->container)
        route->refuse(call, e);
    else
        reply_err(call->req, e);
    json_decref(call->body);
    forget_params(call);
}

/* What was found before the body was parsed may be gone by now, so it is looked for again. */
static void on_parsed(struct agent *a, struct http_request *req, json_t *body, struct err *body_error)
{
    struct api_call call = {.agent = a, .req = req, .verb = verb_of(http_method(req)), .body = body};
    const struct route *route = NULL;
    struct err *e = err_first(prepare(&call, &route), body_error);

    answer(&call, route, e);
}

void api_handle(void *owner, struct http_request *req)
{
    struct api_call call = {.agent = owner, .req = req, .verb = verb_of(http_method(req))};
    const struct route *route = NULL;
    struct err *e = prepare(&call, &route);
    size_t len;
    const char *text = http_body(req, &len);

    if (!e && call.verb != GET && !route->upload && len > API_BODY_AT_ONCE) {
        forget_params(&call);
        api_body_parse_later(owner, req, on_parsed);
        return;
    }
    if (!e && call.verb != GET && !route->upload && len > 0)
        e = api_body_parse(text, len, &call.body);
    answer(&call, route, e);
}

struct err *query_int(const struct api_call *call, const char *name, int64_t min, int64_t max, int64_t otherwise,
                      int64_t *ret)
{
    const char *text = http_query(call->req, name);

    *ret = otherwise;
    if (!text)
        return NULL;
    if (!str_to_i64(text, ret) || *ret < min || *ret > max)
        return err_field(name, "must be %lld..%lld", (long long)min, (long long)max);
    return NULL;
}

struct err *query_choice(const struct api_call *call, const char *name, const char *const *words, int *ret)
{
    const char *text = http_query(call->req, name);
    autofree char *list = str_dup("");

    *ret = 0;
    for (int i = 0; text && words[i]; i++) {
        char *longer = str_fmt("%s%s%s", list, i ? ", " : "", words[i]);

        free(list);
        list = longer;
        if (strcmp(words[i], text) == 0) {
            *ret = i;
            return NULL;
        }
    }
    return text ? err_field(name, "must be one of %s", list) : NULL;
}

struct err *query_bool(const struct api_call *call, const char *name, bool *ret)
{
    static const char *const words[] = {"false", "true", NULL};
    int i = 0;
    struct err *e = query_choice(call, name, words, &i);

    *ret = i == 1;
    return e;
}

bool query_true(const struct api_call *call, const char *name)
{
    return str_eq(http_query(call->req, name), "true");
}

json_t *api_pagination(int64_t total, int64_t page, int64_t limit)
{
    return json_pack("{s:I, s:I, s:I, s:I}", "total", (json_int_t)total, "page", (json_int_t)page, "limit",
                     (json_int_t)limit, "totalPages", (json_int_t)((total + limit - 1) / limit));
}

json_t *api_without_nulls(json_t *object)
{
    const char *name;
    json_t *value;
    void *next;

    json_object_foreach_safe(object, next, name, value) if (json_is_null(value)) json_object_del(object, name);
    return object;
}

json_t *api_time(int64_t ms)
{
    char text[STR_TIME_SIZE];

    return ms > 0 ? json_string(str_time(ms, text)) : json_null();
}
