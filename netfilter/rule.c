/* SPDX-License-Identifier: Apache-2.0 */
#include "netfilter/rule.h"

#include "base/str.h"
#include "netfilter/rule_fields.h"
#include "netfilter/rule_parse.h"

const char *const rule_actions[] = {"allow", "reject", "drop", NULL};
const char *const rule_protocols[] = {"tcp", "udp", "icmp4", NULL};
const char *const rule_states[] = {"enabled", "disabled", NULL};

static const struct json_field ingress_fields[] = {
    RULE_FIELDS(true),
    F_STRING(struct rule, source, .nullable = true, .min = 1, .max = 512),
};
static const struct json_field egress_fields[] = {
    RULE_FIELDS(true),
    F_STRING(struct rule, destination, .nullable = true, .min = 1, .max = 512),
};
static JSON_TABLE(ingress_table, NULL, ingress_fields);
static JSON_TABLE(egress_table, NULL, egress_fields);

const char *rule_direction_name(enum rule_direction direction)
{
    return direction == RULE_INGRESS ? "ingress" : "egress";
}

void rule_free(struct rule *r)
{
    if (!r)
        return;
    free(r->description);
    free(r->source);
    free(r->destination);
    free(r->destination_port);
    free(r->source_port);
    free(r->icmp_type);
    free(r->icmp_code);
    free(r->networks);
    free(r->destination_ports);
    free(r->source_ports);
    free(r);
}

static struct err *normalise_ports(struct rule *r, bool is_icmp)
{
    struct err *e = NULL;

    if (r->destination_port && is_icmp)
        return err_field("destination_port", "does not apply to icmp4");
    if (r->source_port && is_icmp)
        return err_field("source_port", "does not apply to icmp4");
    if (r->destination_port)
        e = rule_parse_ports("destination_port", &r->destination_port, &r->destination_ports,
                             &r->destination_port_count);
    if (!e && r->source_port)
        e = rule_parse_ports("source_port", &r->source_port, &r->source_ports, &r->source_port_count);
    return e;
}

static struct err *normalise_icmp(struct rule *r, bool whole)
{
    struct err *e = NULL;

    r->type = r->code = -1;
    if (whole && r->protocol != RULE_ICMP4 && (r->icmp_type || r->icmp_code))
        return err_field(r->icmp_type ? "icmp_type" : "icmp_code", "applies to icmp4 only");
    if (whole && r->icmp_code && !r->icmp_type)
        return err_field("icmp_code", "needs icmp_type");
    if (r->icmp_type)
        e = rule_parse_icmp("icmp_type", &r->icmp_type, &r->type);
    if (!e && r->icmp_code)
        e = rule_parse_icmp("icmp_code", &r->icmp_code, &r->code);
    return e;
}

struct err *rule_normalise(enum rule_direction direction, struct rule *r, bool whole)
{
    char **network = direction == RULE_INGRESS ? &r->source : &r->destination;
    struct err *e;

    if (r->description && str_has_control(r->description))
        return err_field("description", "must not contain control characters");
    e = normalise_ports(r, whole && r->protocol == RULE_ICMP4);
    if (!e)
        e = normalise_icmp(r, whole);
    if (!e && *network)
        e = rule_parse_networks(direction == RULE_INGRESS ? "source" : "destination", network, &r->networks,
                                &r->network_count);
    return e;
}

struct err *rule_load(enum rule_direction direction, const json_t *body, struct rule **ret)
{
    auto_(rule_free) struct rule *r = mem_new(struct rule);
    struct err *e;

    e = json_table_load(direction == RULE_INGRESS ? &ingress_table : &egress_table, body, r, NULL);
    if (!e)
        e = rule_normalise(direction, r, true);
    if (e)
        return e;
    if (rule_expansion(r) > RULE_MAX_EXPANSION)
        return err_field(direction == RULE_INGRESS ? "source" : "destination",
                         "must not make more than %d combinations of networks and ports", RULE_MAX_EXPANSION);
    *ret = steal(&r);
    return NULL;
}

static void set_text(json_t *obj, const char *name, const char *text)
{
    if (text)
        json_object_set_new(obj, name, json_string(text));
}

json_t *rule_to_json(enum rule_direction direction, const struct rule *r)
{
    json_t *obj = json_object();

    json_object_set_new(obj, "action", json_string(rule_actions[r->action]));
    json_object_set_new(obj, "protocol", json_string(rule_protocols[r->protocol]));
    json_object_set_new(obj, "description", r->description ? json_string(r->description) : json_null());
    if (direction == RULE_INGRESS)
        set_text(obj, "source", r->source);
    else
        set_text(obj, "destination", r->destination);
    set_text(obj, "destination_port", r->destination_port);
    set_text(obj, "source_port", r->source_port);
    json_object_set_new(obj, "state", json_string(rule_states[r->state]));
    set_text(obj, "icmp_type", r->icmp_type);
    set_text(obj, "icmp_code", r->icmp_code);
    return obj;
}

bool rule_ranges_equal(const struct rule_range *a, size_t a_count, const struct rule_range *b, size_t b_count)
{
    return a_count == b_count && (a_count == 0 || memcmp(a, b, a_count * sizeof(*a)) == 0);
}

bool rule_same(const struct rule *a, const struct rule *b)
{
    return a->action == b->action && a->protocol == b->protocol && a->type == b->type && a->code == b->code &&
           rule_ranges_equal(a->networks, a->network_count, b->networks, b->network_count) &&
           rule_ranges_equal(a->destination_ports, a->destination_port_count, b->destination_ports,
                             b->destination_port_count) &&
           rule_ranges_equal(a->source_ports, a->source_port_count, b->source_ports, b->source_port_count);
}

/* FNV-1a. */
static uint64_t mix(uint64_t hash, const void *data, size_t len)
{
    const uint8_t *p = data;

    for (size_t i = 0; i < len; i++)
        hash = (hash ^ p[i]) * UINT64_C(0x100000001b3);
    return hash;
}

static uint64_t mix_ranges(uint64_t hash, const struct rule_range *list, size_t count)
{
    return mix(mix(hash, &count, sizeof(count)), list, count * sizeof(*list));
}

uint64_t rule_id(const struct rule *r)
{
    const int plain[] = {r->action, r->protocol, r->type, r->code};
    uint64_t hash = mix(UINT64_C(0xcbf29ce484222325), plain, sizeof(plain));

    hash = mix_ranges(hash, r->networks, r->network_count);
    hash = mix_ranges(hash, r->destination_ports, r->destination_port_count);
    return mix_ranges(hash, r->source_ports, r->source_port_count);
}

size_t rule_expansion(const struct rule *r)
{
    return MAX(r->network_count, 1u) * MAX(r->destination_port_count, 1u) * MAX(r->source_port_count, 1u);
}

size_t rules_expansion(struct rule *const *list, size_t count)
{
    size_t total = 0;

    for (size_t i = 0; i < count; i++)
        total += rule_expansion(list[i]);
    return total;
}
