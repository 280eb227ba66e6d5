/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/events/feed.h"
#include "agent/ticker.h"

#include "agent/containers/ssh_key.h"
#include "agent/containers/texts.h"
#include "agent/http/sse.h"
#include "agent/kits/kits.h"
#include "agent/network/ipv6.h"
#include "base/str.h"

/* How soon a change is told; every LOOK_ROUNDS the map is compared even if no operation has ended. */
enum { PERIOD_MS = 100, LOOK_ROUNDS = 10, WAITING_MAX = 16 };

struct reader {
    struct feed *feed;
    struct reader *prev, *next;
    struct sse *sse;
    bool behind; /* it has missed changes: the map comes when it has taken what waits */
};

struct feed {
    struct agent *agent;
    struct reader *first;
    struct ticker ticker;
    json_t *told; /* container id -> what its route says, in short */
    uint64_t revision;
    int round;
};

static json_t *services_of(const struct agent *a, const struct container *c)
{
    json_t *list = json_array(), *kit, *service;
    size_t i, k;

    json_array_foreach(c->record.kits, i, kit)
    {
        const char *name = json_string_value(json_object_get(kit, "name"));
        const json_t *manifest = kits_manifest(a, name, json_string_value(json_object_get(kit, "version")));

        json_array_foreach(json_object_get(manifest, "services"), k, service) json_array_append_new(
            list,
            json_pack("{s:s, s:O, s:O, s:O*, s:O, s:O?}", "kit", name, "slug", json_object_get(service, "slug"), "port",
                      json_object_get(service, "port"), "port_last", json_object_get(service, "port_last"), "protocol",
                      json_object_get(service, "protocol"), "health", json_object_get(service, "health")));
    }
    return list;
}

json_t *feed_route(const struct agent *a, const struct container *c)
{
    autofree char *fingerprint = ssh_key_fingerprint(c->record.ssh_public_key);

    return json_pack("{s:s, s:s, s:s, s:s, s:b, s:s, s:s*, s:s, s:s?, s:o}", "container_id", c->record.id, "project_id",
                     c->record.project_id, "name", c->record.name, "status", container_status_word(c), "running",
                     strcmp(container_status_word(c), "running") == 0, "ipv4", c->net.ipv4, "ipv6", ipv6_address(a, c),
                     "interface", c->net.ifname, "ssh_key_fingerprint", fingerprint, "services", services_of(a, c));
}

/* What of a route may change while its container lives. */
static char *gist_of(const struct container *c)
{
    return str_fmt("%s %s %s %llu %s", container_status_word(c), c->record.project_id, c->record.name,
                   (unsigned long long)c->kits_changes, c->record.ssh_public_key ? c->record.ssh_public_key : "");
}

char *feed_map(const struct agent *a)
{
    struct text_buffer b = {0};

    text_add_format(&b, "{\"revision\":%llu,\"node_id\":\"%s\",\"routes\":[", (unsigned long long)a->routes_revision,
                    a->node_id);
    for (size_t i = 0; i < a->container_count; i++) {
        const struct text *t = a->containers[i]->record.spare ? NULL : texts_route(a, a->containers[i]);

        if (!t)
            continue;
        text_add(&b, ",", b.text[b.len - 1] != '[');
        text_add(&b, t->text, t->len);
    }
    text_add(&b, "]}", 2);
    return b.text;
}

static void tell(struct reader *r, const char *event, const char *data)
{
    autofree char *id = str_fmt("%llu", (unsigned long long)r->feed->agent->routes_revision);

    sse_send(r->sse, id, event, data);
}

static void send_map(struct reader *r)
{
    autofree char *map = feed_map(r->feed->agent);

    r->behind = false;
    tell(r, "routes", map);
}

/* The routes that differ from what was told, and the ids of those that are gone; NULL when there are none. */
static json_t *changes(struct feed *f)
{
    struct agent *a = f->agent;
    json_t *told = json_object(), *changed = json_array(), *removed = json_array(), *gist;
    const char *id;

    for (size_t i = 0; i < a->container_count; i++) {
        const struct container *c = a->containers[i];
        autofree char *now = c->record.spare ? NULL : gist_of(c);

        if (!now)
            continue;
        if (!str_eq(json_string_value(json_object_get(f->told, c->record.id)), now))
            json_array_append_new(changed, feed_route(a, c));
        json_object_set_new(told, c->record.id, json_string(now));
    }
    json_object_foreach(f->told, id, gist) if (!json_object_get(told, id))
        json_array_append_new(removed, json_string(id));
    json_decref(f->told);
    f->told = told;
    if (json_array_size(changed) + json_array_size(removed) == 0) {
        json_decref(changed);
        json_decref(removed);
        return NULL;
    }
    if (a->routes_revision == f->revision)
        a->routes_revision++; /* something that was no operation */
    return json_pack("{s:I, s:o, s:o}", "revision", (json_int_t)a->routes_revision, "changed", changed, "removed",
                     removed);
}

/* Everybody is told the same, so that the next difference is one for everybody. */
static void look(struct feed *f)
{
    autojson j = changes(f);
    autofree char *text = j ? json_dumps(j, JSON_COMPACT) : NULL;

    f->revision = f->agent->routes_revision;
    for (struct reader *r = f->first; text && r; r = r->next) {
        r->behind = r->behind || sse_waiting(r->sse) >= WAITING_MAX;
        if (!r->behind)
            tell(r, "changed", text);
    }
}

static void on_timer(uv_timer_t *timer)
{
    struct feed *f = timer->data;

    if (f->first && (f->revision != f->agent->routes_revision || ++f->round % LOOK_ROUNDS == 0))
        look(f);
}

static void on_drained(void *owner)
{
    struct reader *r = owner;

    if (r->behind)
        send_map(r);
}

static void on_gone(void *owner)
{
    struct reader *r = owner;

    if (r->prev)
        r->prev->next = r->next;
    else
        r->feed->first = r->next;
    if (r->next)
        r->next->prev = r->prev;
    else if (!r->feed->first)
        uv_timer_stop(&r->feed->ticker.timer);
    free(r);
}

struct feed *feed_start(struct agent *a)
{
    struct feed *f = mem_new(struct feed);

    f->agent = a;
    f->told = json_object();
    ticker_init(&f->ticker, a->loop, f);
    return f;
}

static void feed_free(void *part)
{
    struct feed *f = part;

    json_decref(f->told);
    free(f);
}

void feed_close(struct feed *f, void *owner, void (*closed)(void *owner))
{
    ticker_close(&f->ticker, feed_free, owner, closed);
}

void feed_stream(struct feed *f, struct http_request *req)
{
    struct reader *r = mem_new(struct reader);

    *r = (struct reader){.feed = f};
    r->sse = sse_begin(f->agent->sse, req,
                       &(struct sse_config){.kind = SSE_ROUTES, .owner = r, .drained = on_drained, .gone = on_gone});
    if (!r->sse) {
        free(r);
        return;
    }
    look(f); /* what the others have not been told yet */
    r->next = f->first;
    if (r->next)
        r->next->prev = r;
    else
        uv_timer_start(&f->ticker.timer, on_timer, PERIOD_MS, PERIOD_MS);
    f->first = r;
    send_map(r);
}
