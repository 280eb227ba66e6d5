/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Drives the netfilter module from a test: one JSON command a line on stdin, one JSON answer a line on stdout,
 * {"ok": value, "us": microseconds, "kernel_us": of these in the kernel} or {"error": {...}}. The first command must be
 * "open".
 */
#include <poll.h>
#include <stdio.h>

#include <libmnl/libmnl.h>

#include "base/clock.h"
#include "base/failpoint.h"
#include "base/json_table.h"
#include "base/str.h"
#include "netfilter/netfilter.h"

#define LIST_MAX 1024

static struct nf *nf;
static struct nf_watch *watch;
static int64_t kernel_us;

/* The kernel works while it is sent to (-Wl,--wrap). */
ssize_t __real_mnl_socket_sendto(const struct mnl_socket *nl, const void *req, size_t len);
ssize_t __wrap_mnl_socket_sendto(const struct mnl_socket *nl, const void *req, size_t len);
ssize_t __wrap_mnl_socket_sendto(const struct mnl_socket *nl, const void *req, size_t len)
{
    int64_t start = clock_mono_us();
    ssize_t n = __real_mnl_socket_sendto(nl, req, len);

    kernel_us += clock_mono_us() - start;
    return n;
}

struct owned { /* a container of a command, and what must be freed */
    struct nf_container c;
    uint16_t kit_ports[LIST_MAX];
    struct nf_forward forwards[LIST_MAX];
    struct rule *ingress[LIST_MAX], *egress[LIST_MAX];
};

static const char *text(const json_t *j, const char *key, const char *otherwise)
{
    const char *s = json_string_value(json_object_get(j, key));

    return s ? s : otherwise;
}

static size_t ports(const json_t *list, uint16_t *ret)
{
    size_t n = MIN(json_array_size(list), (size_t)LIST_MAX);

    for (size_t i = 0; i < n; i++)
        ret[i] = (uint16_t)json_integer_value(json_array_get(list, i));
    return n;
}

/* [["tcp", 8080, 80], ...] */
static size_t forwards(const json_t *list, struct nf_forward *ret)
{
    size_t n = MIN(json_array_size(list), (size_t)LIST_MAX);

    for (size_t i = 0; i < n; i++) {
        const json_t *f = json_array_get(list, i);

        ret[i].protocol = str_eq(json_string_value(json_array_get(f, 0)), "udp") ? IPPROTO_UDP : IPPROTO_TCP;
        ret[i].host_port = (uint16_t)json_integer_value(json_array_get(f, 1));
        ret[i].port = (uint16_t)json_integer_value(json_array_get(f, 2));
    }
    return n;
}

static struct err *rules(enum rule_direction direction, const json_t *list, struct rule **ret, size_t *ret_count)
{
    struct err *e = NULL;

    for (size_t i = 0; !e && i < MIN(json_array_size(list), (size_t)LIST_MAX); i++) {
        e = rule_load(direction, json_array_get(list, i), &ret[i]);
        if (!e)
            *ret_count = i + 1;
    }
    return e;
}

static struct err *container(const json_t *j, struct owned *o)
{
    static const char *const ways[] = {"open", "blocked", "relayed", NULL};
    int way = 0;
    struct err *e;

    o->c.slot = (int)json_integer_value(json_object_get(j, "slot"));
    o->c.closed = json_is_true(json_object_get(j, "closed"));
    o->c.proxy = json_is_true(json_object_get(j, "proxy"));
    while (ways[way] && !str_eq(ways[way], text(j, "way_out", "open")))
        way++;
    o->c.way_out = (enum nf_egress)way;
    o->c.limits = (struct nf_limits){.up = (uint64_t)json_integer_value(json_object_get(j, "up")),
                                     .down = (uint64_t)json_integer_value(json_object_get(j, "down")),
                                     .connections = (uint32_t)json_integer_value(json_object_get(j, "connections"))};
    o->c.group = (uint16_t)json_integer_value(json_object_get(j, "group"));
    o->c.kit_port_count = ports(json_object_get(j, "kit_ports"), o->kit_ports);
    o->c.kit_ports = o->kit_ports;
    o->c.forward_count = forwards(json_object_get(j, "forwards"), o->forwards);
    o->c.forwards = o->forwards;
    o->c.ingress = o->ingress;
    o->c.egress = o->egress;
    e = rules(RULE_INGRESS, json_object_get(j, "ingress"), o->ingress, &o->c.ingress_count);
    return e ? e : rules(RULE_EGRESS, json_object_get(j, "egress"), o->egress, &o->c.egress_count);
}

static void release(struct owned *o)
{
    for (size_t i = 0; i < o->c.ingress_count; i++)
        rule_free(o->ingress[i]);
    for (size_t i = 0; i < o->c.egress_count; i++)
        rule_free(o->egress[i]);
}

static struct err *do_open(const json_t *j)
{
    uint16_t tcp_ports[LIST_MAX], udp_ports[LIST_MAX];
    uint32_t uids[LIST_MAX];
    const json_t *list = json_object_get(j, "proxy_uids");
    struct nf_config config = {
        .table = text(j, "table", "noded"),
        .uplink = text(j, "uplink", NULL),
        .inter_container = json_is_true(json_object_get(j, "inter_container")),
        .drop_ipv6 = json_is_true(json_object_get(j, "drop_ipv6")),
        .host_tcp_ports = tcp_ports,
        .host_tcp_port_count = ports(json_object_get(j, "host_tcp_ports"), tcp_ports),
        .host_udp_ports = udp_ports,
        .host_udp_port_count = ports(json_object_get(j, "host_udp_ports"), udp_ports),
        .share_percent = (int)json_integer_value(json_object_get(j, "share_percent")),
        .reserve_percent = (int)json_integer_value(json_object_get(j, "reserve_percent")),
        .proxy_uids = uids,
        .proxy_uid_count = MIN(json_array_size(list), (size_t)LIST_MAX),
    };
    struct err *e;

    for (size_t i = 0; i < config.proxy_uid_count; i++)
        uids[i] = (uint32_t)json_integer_value(json_array_get(list, i));
    e = net_plan_init(&config.plan, text(j, "prefix", "nd"), text(j, "ipv4_pool", "10.96.0.0/16"),
                      text(j, "ipv6_pool", "fd6e:6f64:6564::/64"));
    return e ? e : nf_open(&config, &nf);
}

/* d: a repair, which puts into it what was wrong; NULL: a sync. */
static struct err *do_sync(const json_t *list, bool table, struct nf_drift *d)
{
    size_t count = json_array_size(list);
    autofree struct owned *all = mem_new_array(struct owned, count + 1);
    autofree struct nf_container *containers = mem_new_array(struct nf_container, count + 1);
    struct err *e = NULL;

    for (size_t i = 0; !e && i < count; i++) {
        e = container(json_array_get(list, i), &all[i]);
        containers[i] = all[i].c;
    }
    if (!e)
        e = d ? nf_repair(nf, containers, count, table, d) : nf_sync(nf, containers, count);
    for (size_t i = 0; i < count; i++)
        release(&all[i]);
    return e;
}

static struct err *do_set(const json_t *j)
{
    autofree struct owned *o = mem_new(struct owned);
    struct err *e = container(j, o);

    if (!e)
        e = nf_container_set(nf, &o->c);
    release(o);
    return e;
}

static struct err *do_counters(int slot, json_t **ret)
{
    struct nf_counters c;
    struct err *e = nf_link_counters(nf, slot, &c);

    if (e)
        return e;
    *ret = json_pack("{s:I, s:I, s:I, s:I}", "received_bytes", (json_int_t)c.received_bytes, "sent_bytes",
                     (json_int_t)c.sent_bytes, "received_packets", (json_int_t)c.received_packets, "sent_packets",
                     (json_int_t)c.sent_packets);
    return NULL;
}

static json_t *hits_json(const struct nf_hits *hits, size_t count)
{
    json_t *list = json_array();

    for (size_t i = 0; i < count; i++)
        json_array_append_new(list, json_pack("[I, I]", (json_int_t)hits[i].packets, (json_int_t)hits[i].bytes));
    return list;
}

static struct err *do_connections(json_t **ret)
{
    struct nf_connections c;
    json_t *at_limit = json_array();
    struct err *e = nf_connections(nf, &c);

    for (size_t i = 0; !e && i < c.at_limit_count; i++)
        json_array_append_new(at_limit, json_pack("[i, i]", c.at_limit[i].slot, (int)c.at_limit[i].directions));
    *ret = json_pack("{s:b, s:I, s:I, s:I, s:I, s:b, s:o}", "uncounted", c.uncounted, "count", (json_int_t)c.count,
                     "max", (json_int_t)c.max, "share", (json_int_t)c.share, "all", (json_int_t)c.all, "resized",
                     c.resized, "at_limit", at_limit);
    return e;
}

static struct err *do_hits(const json_t *j, json_t **ret)
{
    autofree struct owned *o = mem_new(struct owned);
    struct nf_hits in[LIST_MAX], out[LIST_MAX];
    struct err *e = container(j, o);

    if (!e)
        e = nf_container_hits(nf, &o->c, in, out);
    if (!e)
        *ret = json_pack("{s:o, s:o}", "ingress", hits_json(in, o->c.ingress_count), "egress",
                         hits_json(out, o->c.egress_count));
    release(o);
    return e;
}

static json_t *words(const struct nf_drift *d)
{
    json_t *list = json_array();

    for (size_t i = 0; i < d->count; i++)
        json_array_append_new(list, json_string(d->found[i].what));
    for (int slot = 0; slot <= NET_SLOT_MAX; slot++)
        if (d->lost[slot / 8] & (1 << (slot % 8)))
            json_array_append_new(list, json_sprintf("link %d", slot));
    return list;
}

/* {"table", "host", "foreign": what was concerned, "words"}, waiting for one of the first two until the timeout. */
static json_t *changed(int timeout_ms)
{
    struct pollfd p = {.fd = nf_watch_fd(watch), .events = POLLIN};
    int64_t end = clock_mono_ms() + timeout_ms;
    struct nf_drift d = {0};
    unsigned seen = 0;

    do {
        if (poll(&p, 1, (int)MAX(end - clock_mono_ms(), 0)) > 0)
            seen |= nf_watch_changed(watch, &d);
    } while (clock_mono_ms() < end && !(seen & (NF_SEEN_TABLE | NF_SEEN_HOST)));
    return json_pack("{s:b, s:b, s:b, s:o}", "table", seen & NF_SEEN_TABLE, "host", seen & NF_SEEN_HOST, "foreign",
                     seen & NF_SEEN_FOREIGN, "words", words(&d));
}

static struct err *run(const json_t *j, json_t **ret)
{
    const char *call = text(j, "call", "");
    int slot = (int)json_integer_value(json_object_get(j, "slot"));

    if (str_eq(call, "open"))
        return do_open(j);
    if (str_eq(call, "sync"))
        return do_sync(json_object_get(j, "containers"), true, NULL);
    if (str_eq(call, "repair")) {
        struct nf_drift d = {0};
        struct err *e = do_sync(json_object_get(j, "containers"), json_is_true(json_object_get(j, "table")), &d);

        *ret = words(&d);
        return e;
    }
    if (str_eq(call, "set"))
        return do_set(j);
    if (str_eq(call, "remove"))
        return nf_container_remove(nf, slot);
    if (str_eq(call, "link_create"))
        return nf_link_create(nf, slot);
    if (str_eq(call, "link_delete"))
        return nf_link_delete(nf, slot);
    if (str_eq(call, "counters"))
        return do_counters(slot, ret);
    if (str_eq(call, "connections"))
        return do_connections(ret);
    if (str_eq(call, "connections_tidy"))
        return nf_connections_tidy(nf, slot);
    if (str_eq(call, "hits"))
        return do_hits(j, ret);
    if (str_eq(call, "uninstall"))
        return nf_uninstall(nf);
    if (str_eq(call, "watch"))
        return nf_watch_open(nf, &watch);
    if (str_eq(call, "changed")) {
        *ret = changed((int)json_integer_value(json_object_get(j, "timeout_ms")));
        return NULL;
    }
    return err_new(ERR_INVALID, "there is no call '%s'", call);
}

static void answer(struct err *e, json_t *ok, int64_t us)
{
    autojson j = e ? json_pack("{s:o}", "error", err_to_json(e))
                   : json_pack("{s:o, s:I, s:I}", "ok", ok ? ok : json_null(), "us", (json_int_t)us, "kernel_us",
                               (json_int_t)kernel_us);

    json_dumpf(j, stdout, JSON_COMPACT);
    putchar('\n');
    fflush(stdout);
    err_free(e);
}

int main(void)
{
    autofree char *line = NULL;
    size_t size = 0;
    ssize_t n;

    failpoint_init();
    while ((n = getline(&line, &size, stdin)) > 0) {
        autojson j = NULL;
        json_t *ok = NULL;
        int64_t start = clock_mono_us();
        struct err *e;

        kernel_us = 0;
        e = json_parse(line, (size_t)n, "command", &j);

        if (!e)
            e = run(j, &ok);
        answer(e, ok, clock_mono_us() - start);
    }
    nf_watch_close(watch);
    nf_close(nf);
    return 0;
}
