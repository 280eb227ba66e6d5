/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/stats/runtime.h"

#include "agent/kits/watch.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"

/* A container that could not be looked into is not asked again for a while: it may be one that keeps us waiting. */
enum { FRESH_MS = 2000, FAILED_MS = 10000, JOBS_MAX = 3 };

#define KITS "kits" /* is known without a look */
static const char *const sections[] = {"displays", "services", "network_services", "terminals", KITS};

struct runtime_seen {
    json_t *info; /* all sections; NULL: it could not be read */
    int64_t at_ms;
};

/* A request that waits until all its containers have been looked into. */
struct query {
    struct agent *agent;
    struct http_request *req;
    const char *message;
    json_t *data, *containers;
    bool wanted[ARRAY_LEN(sections)];
    size_t open;
};

struct look {
    struct look *next;
    struct runtime *runtime;
    struct query *query;
    char *id;
    json_t *object; /* the container object; borrowed from the query */
};

struct runtime {
    struct agent *agent;
    struct look *head, **tail; /* waiting for a job */
    size_t running;
};

struct runtime *runtime_new(struct agent *a)
{
    struct runtime *r = mem_new(struct runtime);

    r->agent = a;
    r->tail = &r->head;
    return r;
}

void runtime_free(struct runtime *r)
{
    free(r);
}

void runtime_forget(struct container *c)
{
    if (!c->seen)
        return;
    json_decref(c->seen->info);
    free(c->seen);
    c->seen = NULL;
}

static bool is_fresh(const struct container *c)
{
    return c->seen && clock_mono_ms() - c->seen->at_ms < (c->seen->info ? FRESH_MS : FAILED_MS);
}

static void query_end(struct query *q)
{
    if (--q->open > 0)
        return;
    reply_ok(q->req, 200, q->message, steal(&q->data));
    free(q);
}

static void fill_in(const struct query *q, const struct container *c, json_t *object)
{
    json_t *info;

    if (!c || !c->seen || !c->seen->info)
        return;
    info = json_object();
    for (size_t i = 0; i < ARRAY_LEN(sections); i++)
        if (q->wanted[i])
            json_object_set_new(info, sections[i],
                                str_eq(sections[i], KITS)
                                    ? kit_watch_report(c, json_object_get(c->seen->info, "services"))
                                    : json_incref(json_object_get(c->seen->info, sections[i])));
    json_object_set_new(object, "runtime_info", info);
}

static void start_waiting(struct runtime *r);

static void look_end(struct look *l)
{
    fill_in(l->query, agent_find(l->runtime->agent, l->id), l->object);
    query_end(l->query);
    free(l->id);
    free(l);
}

/* The sections that a node knows nothing of are empty: displays and terminals are services of kits. */
static json_t *info_of(json_t *result)
{
    json_t *services = json_object_get(result, "services"), *sockets = json_object_get(result, "network_services");

    return json_pack("{s:[], s:o, s:o, s:[]}", "displays", "services",
                     json_is_array(services) ? json_incref(services) : json_array(), "network_services",
                     json_is_array(sockets) ? json_incref(sockets) : json_array(), "terminals");
}

static void on_looked(void *owner, struct err *e, json_t *result)
{
    struct look *l = owner;
    struct runtime *r = l->runtime;
    struct container *c = agent_find(r->agent, l->id);

    if (c) {
        runtime_forget(c);
        c->seen = mem_new(struct runtime_seen);
        *c->seen = (struct runtime_seen){.info = e ? NULL : info_of(result), .at_ms = clock_mono_ms()};
    }
    if (e)
        log_err(&(struct log_ctx){.container = l->id}, LOG_LEVEL_INFO, e, "the container cannot be looked into");
    json_decref(result);
    look_end(l);
    r->running--;
    start_waiting(r);
}

/* Several requests may ask for the same container: the first answer serves all that come to their turn after it. */
static void start_waiting(struct runtime *r)
{
    while (r->head && r->running < JOBS_MAX) {
        struct look *l = r->head;
        const struct container *c = agent_find(r->agent, l->id);

        r->head = l->next;
        if (!r->head)
            r->tail = &r->head;
        if (!c || !c->init_pid || is_fresh(c) || r->agent->stopping) {
            look_end(l);
        } else {
            const struct job_look args = {.services = c->record.status == CONTAINER_RUNNING};

            r->running++;
            agent_job(r->agent, JOB_LOOK, c->record.slot, &args, 0, l, on_looked);
        }
    }
}

static void ask(struct query *q, const struct container *c, json_t *object)
{
    struct runtime *r = q->agent->runtime;
    struct look *l = mem_new(struct look);

    *l = (struct look){.runtime = r, .query = q, .id = str_dup(c->record.id), .object = object};
    *r->tail = l;
    r->tail = &l->next;
    q->open++;
}

/* "true", "false", or an object of sections with booleans, where {} means all. */
static struct err *load_wanted(const struct api_call *call, bool *ret_any, bool *wanted)
{
    const char *text = http_query(call->req, "runtime");
    autojson j = NULL;
    json_t *value;
    const char *key;

    *ret_any = text && !str_eq(text, "false");
    if (!*ret_any)
        return NULL;
    j = json_loads(str_eq(text, "true") ? "{}" : text, JSON_REJECT_DUPLICATES, NULL);
    if (!json_is_object(j))
        return err_field("runtime", "must be true, false or a JSON object");
    json_object_foreach(j, key, value)
    {
        size_t i = 0;

        while (i < ARRAY_LEN(sections) && !str_eq(sections[i], key))
            i++;
        if (i == ARRAY_LEN(sections) || !json_is_boolean(value))
            return err_field("runtime",
                             "may have displays, services, network_services, terminals and kits, true or false");
        wanted[i] = json_is_true(value);
    }
    for (size_t i = 0; i < ARRAY_LEN(sections) && json_object_size(j) == 0; i++)
        wanted[i] = true;
    return NULL;
}

void runtime_reply(const struct api_call *call, const char *message, json_t *data, json_t *containers)
{
    struct query *q = mem_new(struct query);
    bool any = false;
    json_t *object;
    size_t i;
    struct err *e = load_wanted(call, &any, q->wanted);

    if (e || !any) {
        free(q);
        if (e) {
            json_decref(data);
            reply_err(call->req, e);
        } else {
            reply_ok(call->req, 200, message, data);
        }
        return;
    }
    q->agent = call->agent;
    q->req = call->req;
    q->message = message;
    q->data = data;
    q->open = 1;
    json_array_foreach(containers, i, object)
    {
        const struct container *c = agent_find(call->agent, json_string_value(json_object_get(object, "id")));

        if (c && c->init_pid && is_fresh(c))
            fill_in(q, c, object);
        else if (c && c->init_pid)
            ask(q, c, object);
    }
    query_end(q);
    start_waiting(call->agent->runtime);
}
