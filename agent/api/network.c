/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The network configuration of a container (contract, section 2.5). A configuration that does not run is only recorded;
 * what changes the way of packets is an operation (operations/network.c).
 */
#include <arpa/inet.h>

#include "agent/api/api.h"
#include "agent/network/egress.h"
#include "base/clock.h"
#include "base/id.h"
#include "base/str.h"

enum { DNS_MAX = 4, PLACE_MAX = 100, COMMENT_MAX = 1000 };

struct network_body {
    int type;
    char *proxy, *country, *city, *region, *comment;
    json_t *dns_servers;
};
#define B(kind, member, ...) F_##kind(struct network_body, member, __VA_ARGS__)
static const struct json_field body_fields[] = {
    F_ENUM(struct network_body, type, egress_type_words, .required = true),
    B(STRING, proxy, .nullable = true, .min = 0, .max = PROXY_URL_MAX),
    B(STRING, country, .nullable = true, .min = 0, .max = PLACE_MAX),
    B(STRING, city, .nullable = true, .min = 0, .max = PLACE_MAX),
    B(STRING, region, .nullable = true, .min = 0, .max = PLACE_MAX),
    B(STRING, comment, .nullable = true, .min = 0, .max = COMMENT_MAX),
    B(JSON, dns_servers, .nullable = true, .has_type = true, .type = JSON_ARRAY),
};
static JSON_TABLE(body_table, NULL, body_fields);

/* A relay talks with strangers: only what we know is handed on. */
static json_t *udp_report(const json_t *said)
{
    const json_t *carried = json_object_get(said, "carried");

    if (!json_is_object(said))
        return json_null();
    return json_pack("{s:o, s:I, s:I}", "carried",
                     json_is_boolean(carried) ? json_boolean(json_is_true(carried)) : json_null(), "associations",
                     json_integer_value(json_object_get(said, "associations")), "dropped",
                     json_integer_value(json_object_get(said, "dropped")));
}

static json_t *report(const struct container *c)
{
    const struct egress *eg = c->egress;
    struct egress_status status;
    json_t *remote;

    if (!eg)
        return json_pack("{s:s, s:b, s:b, s:[]}", "container_id", c->record.id, "configured", false,
                         "credentials_configured", false, "dns_servers");
    status = egress_status(c);
    remote = json_pack("{s:b, s:o}", "is_running", str_eq(status.word, "running"), "last_check",
                       api_time(status.checked_at));
    remote = api_without_nulls(remote);
    json_object_set_new(remote, "udp", udp_report(status.udp));
    return api_without_nulls(json_pack(
        "{s:s, s:b, s:s, s:s?, s:b, s:s?, s:s?, s:s?, s:s?, s:O, s:s, s:s?, s:o, s:o, s:o}", "container_id",
        c->record.id, "configured", true, "type", egress_type_words[eg->record.type], "proxy", eg->record.proxy,
        "credentials_configured", eg->username != NULL, "country", eg->record.country, "city", eg->record.city,
        "region", eg->record.region, "comment", eg->record.comment, "dns_servers", eg->record.dns_servers, "status",
        status.word, "status_message", status.problem, "configured_at", api_time(eg->record.configured_at),
        "last_status_check", api_time(status.checked_at), "remote_status", remote));
}

void network_get(struct api_call *call)
{
    reply_ok(call->req, 200, "Network configuration retrieved successfully", report(call->container));
}

static bool is_address(const char *s)
{
    struct in6_addr address;

    return s && (inet_pton(AF_INET, s, &address) == 1 || inet_pton(AF_INET6, s, &address) == 1);
}

static struct err *check_dns(json_t **servers)
{
    json_t *v;
    size_t i;

    if (json_array_size(*servers) > DNS_MAX)
        return err_field("dns_servers", "must have at most %d addresses", DNS_MAX);
    json_array_foreach(*servers, i, v) if (!is_address(json_string_value(v))) return err_field(
        "dns_servers", "must hold IPv4 or IPv6 addresses");
    if (json_array_size(*servers) == 0) {
        json_decref(*servers);
        *servers = json_pack("[s, s]", "1.1.1.1", "8.8.8.8");
    }
    return NULL;
}

static struct err *check_texts(const struct network_body *b)
{
    const struct {
        const char *field, *value;
    } texts[] = {{"country", b->country}, {"city", b->city}, {"region", b->region}};

    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        if (texts[i].value && str_has_control(texts[i].value))
            return err_field(texts[i].field, "must not have control characters");
    return NULL;
}

/* The proxy of the body into eg; its credentials, or those of the configuration before when it is the same endpoint. */
static struct err *take_proxy(const struct agent *a, const struct network_body *b, const struct egress *before,
                              struct egress *eg)
{
    struct proxy_url url;
    struct err *e;

    if (b->type == EGRESS_BLOCK)
        return NULL;
    if (str_empty(b->proxy)) {
        e = err_reason(err_new(ERR_INVALID, "Proxy URL required for non-block type"), "VALIDATION_ERROR");
        str_set(&e->field, "proxy");
        return e;
    }
    e = proxy_url_parse(b->proxy, (enum proxy_kind)b->type, &url);
    if (!e && a->ipv6_off && strchr(url.host, ':')) {
        e = err_field("proxy", "has an IPv6 address, and IPv6 is disabled on this host: %s", a->ipv6_off);
        proxy_url_clear(&url);
    }
    if (e)
        return err_reason(e, "VALIDATION_ERROR");
    eg->record.proxy = proxy_url_text((enum proxy_kind)b->type, &url);
    if (url.username) {
        eg->username = steal(&url.username);
        eg->password = steal(&url.password);
    } else if (before && str_eq(before->record.proxy, eg->record.proxy)) {
        eg->username = str_dup(before->username);
        eg->password = str_dup(before->password);
    }
    proxy_url_clear(&url);
    return NULL;
}

static struct err *load(const struct api_call *call, struct egress **ret)
{
    const struct egress *before = call->container->egress;
    auto_(egress_free) struct egress *eg = mem_new(struct egress);
    struct network_body b = {0};
    struct err *e = json_table_load(&body_table, call->body, &b, NULL);

    if (e)
        return e;
    e = take_proxy(call->agent, &b, before, eg);
    if (!e)
        e = check_texts(&b);
    if (!e)
        e = check_dns(&b.dns_servers);
    if (!e) {
        struct egress_record *r = &eg->record;
        char generation[ID_OBJECT_LEN + 1];

        r->type = b.type;
        r->state = before && before->record.state == EGRESS_RUNNING ? EGRESS_RUNNING : EGRESS_CONFIGURED;
        r->country = steal(&b.country);
        r->city = steal(&b.city);
        r->region = steal(&b.region);
        r->comment = steal(&b.comment);
        r->dns_servers = steal(&b.dns_servers);
        r->configured_at = clock_wall_ms();
        id_object(generation);
        r->generation = str_dup(generation);
        *ret = steal(&eg);
    }
    if (b.proxy)
        explicit_bzero(b.proxy, strlen(b.proxy));
    json_table_clear(&body_table, &b);
    return e;
}

/* --- what is only recorded */

struct change {
    struct agent *agent;
    char *container_id; /* it may be deleted meanwhile */
    struct http_request *req;
    struct egress *before;      /* ours */
    const struct egress *after; /* the container's; NULL: none any more */
    const char *message;
};

static void on_recorded(void *owner, struct err *e)
{
    struct change *ch = owner;
    struct container *c = agent_find(ch->agent, ch->container_id);

    if (e && c && c->egress == ch->after) { /* unless somebody has changed it again */
        egress_free(c->egress);
        c->egress = steal(&ch->before);
    }
    if (e)
        reply_err(ch->req, e);
    else if (c && ch->after)
        reply_ok(ch->req, 200, ch->message, report(c));
    else
        reply_ok(ch->req, 200, ch->message, NULL);
    egress_free(ch->before);
    free(ch->container_id);
    free(ch);
}

/* Takes over eg, the new configuration; NULL: there is none any more. */
static void record(struct api_call *call, struct egress *eg, const char *word, const char *message)
{
    struct container *c = call->container;
    struct store_tx *tx = store_tx_new();
    struct change *ch = mem_new(struct change);

    *ch = (struct change){.agent = call->agent,
                          .container_id = str_dup(c->record.id),
                          .req = call->req,
                          .before = c->egress,
                          .after = eg,
                          .message = message};
    if (!eg) {
        egress_event(call->agent, tx, c, word);
        store_tx_add(tx, STORE_NETWORK_DELETE, json_pack("[s]", c->record.id));
    }
    c->egress = eg;
    if (eg) {
        egress_put(tx, c);
        egress_event(call->agent, tx, c, word);
    }
    agent_commit(call->agent, tx, ch, on_recorded);
}

/* --- what has an effect */

static void done(struct operation *op, struct err *e)
{
    const char *word = op_arg(op, "word");
    struct container *c = op->container;

    /* The intent was not recorded, so nothing has happened. */
    if (e && op->stage < 0) {
        egress_free(c->egress);
        c->egress = steal(&c->egress_before);
    }
    egress_free(c->egress_before);
    c->egress_before = NULL;
    if (!op->req)
        err_free(e);
    else if (e)
        reply_err(op->req, err_recode(e, ERR_INTERNAL));
    else if (str_eq(word, "deleted"))
        reply_ok(op->req, 200, "Network configuration removed successfully", NULL);
    else if (str_eq(word, "updated"))
        reply_ok(op->req, 200, "Network configuration updated successfully", report(c));
    else {
        autojson j = report(c);
        const json_t *remote = json_object_get(j, "remote_status");

        reply_ok(op->req, 200,
                 str_eq(word, "running") ? "Network started successfully" : "Network stopped successfully",
                 json_pack("{s:O, s:O, s:O, s:O}", "container_id", json_object_get(j, "container_id"), "status",
                           json_object_get(j, "status"), "is_running", json_object_get(remote, "is_running"),
                           "last_check", json_object_get(remote, "last_check")));
    }
}

/* eg (taken over) is what shall be; word names the event. */
static void apply(struct api_call *call, struct egress *eg, const char *word)
{
    struct container *c = call->container;
    struct store_tx *tx = store_tx_new();
    struct operation *op = operation_new(
        call->agent, &op_network, c,
        json_pack("{s:s, s:i, s:b}", "word", word, "from", c->egress->record.state, "remove", str_eq(word, "deleted")),
        "user");

    op->req = call->req;
    op->done = done;
    c->egress_before = c->egress;
    c->egress = eg;
    egress_put(tx, c);
    operation_start(op, tx);
}

/* What only changes the record may be done beside an operation, but not beside one that has to do with the same. */
static struct err *check_free(const struct container *c, bool has_effect)
{
    if (!has_effect && c->record.status != CONTAINER_DELETING && !(c->op && c->op->kind == &op_network))
        return NULL;
    return operation_check_free(c, "network");
}

void network_set(struct api_call *call)
{
    struct container *c = call->container;
    bool running = egress_way(c->egress) != NF_EGRESS_OPEN;
    struct egress *eg = NULL;
    struct err *e = load(call, &eg);

    if (!e)
        e = check_free(c, running);
    if (e) {
        egress_free(eg);
        reply_err(call->req, e);
    } else if (running) {
        apply(call, eg, "updated");
    } else {
        record(call, eg, c->egress ? "updated" : "created", "Network configuration updated successfully");
    }
}

void network_delete(struct api_call *call)
{
    struct container *c = call->container;
    bool running = egress_way(c->egress) != NF_EGRESS_OPEN;
    struct egress *eg;
    struct err *e = NULL;

    if (!c->egress)
        e = err_reason(err_new(ERR_NOT_FOUND, "Container or network configuration not found"), "RESOURCE_NOT_FOUND");
    else
        e = check_free(c, running);
    if (e) {
        reply_err(call->req, e);
        return;
    }
    if (!running) {
        record(call, NULL, "deleted", "Network configuration removed successfully");
        return;
    }
    eg = egress_copy(c->egress);
    eg->record.state = EGRESS_STOPPED;
    apply(call, eg, "deleted");
}

void network_power(struct api_call *call)
{
    struct container *c = call->container;
    bool start = str_eq(call->params[1], "start");
    struct egress *eg;
    struct err *e = NULL;

    if (!c->egress)
        e = err_reason(err_new(ERR_WRONG_STATE, "Network not configured for this container"), "VALIDATION_ERROR");
    else
        e = operation_check_free(c, start ? "network start" : "network stop");
    if (e) {
        reply_err(call->req, e);
        return;
    }
    eg = egress_copy(c->egress);
    eg->record.state = start ? EGRESS_RUNNING : EGRESS_STOPPED;
    apply(call, eg, start ? "running" : "stopped");
}
