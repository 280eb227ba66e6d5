/* SPDX-License-Identifier: Apache-2.0 */
#include "netfilter/rule_fields.h"

#include "base/str.h"

static const struct json_field ingress_fields[] = {
    RULE_FIELDS(false),
    F_STRING(struct rule, source, .nullable = true, .min = 1, .max = 512),
};
static const struct json_field egress_fields[] = {
    RULE_FIELDS(false),
    F_STRING(struct rule, destination, .nullable = true, .min = 1, .max = 512),
};
static JSON_TABLE(ingress_table, NULL, ingress_fields);
static JSON_TABLE(egress_table, NULL, egress_fields);

/* Takes "all" out of a copy of the body, so that the rest is rule fields only. */
static struct err *take_all(enum rule_filter_kind kind, json_t *copy, bool *ret_all)
{
    json_t *all = json_object_get(copy, "all");

    if (!all || kind != RULE_FILTER_REMOVE)
        return NULL;
    if (!json_is_boolean(all))
        return err_field("all", "must be true or false");
    *ret_all = json_is_true(all);
    json_object_del(copy, "all");
    return NULL;
}

/* A null is the same as an absent field; of a field that there is not, it is as wrong as any value. */
static void drop_nulls(const struct json_table *table, json_t *obj)
{
    for (size_t i = 0; i < table->count; i++)
        if (json_is_null(json_object_get(obj, table->fields[i].name)))
            json_object_del(obj, table->fields[i].name);
}

struct err *rule_filter_load(enum rule_direction direction, enum rule_filter_kind kind, const json_t *body,
                             struct rule_filter *ret)
{
    const struct json_table *table = direction == RULE_INGRESS ? &ingress_table : &egress_table;
    auto_(rule_free) struct rule *r = mem_new(struct rule);
    autojson copy = json_is_object(body) ? json_copy((json_t *)body) : json_object();
    struct rule_filter f = {0};
    struct err *e;

    if (body && !json_is_object(body))
        return err_field("body", "must be a JSON object");
    e = take_all(kind, copy, &f.all);
    if (e)
        return e;
    drop_nulls(table, copy);
    e = json_table_load(table, copy, r, &f.present);
    if (!e)
        e = rule_normalise(direction, r, false);
    if (e)
        return e;
    if (kind == RULE_FILTER_TOGGLE) {
        if (!(f.present & (1u << RULE_BIT_STATE)))
            return err_field("state", "is required");
        f.new_state = r->state;
        f.present &= ~(UINT64_C(1) << RULE_BIT_STATE);
    }
    f.match = steal(&r);
    *ret = f;
    return NULL;
}

static bool field_matches(const struct rule *m, const struct rule *r, enum rule_bit bit)
{
    switch (bit) {
    case RULE_BIT_ACTION:
        return m->action == r->action;
    case RULE_BIT_PROTOCOL:
        return m->protocol == r->protocol;
    case RULE_BIT_STATE:
        return m->state == r->state;
    case RULE_BIT_DESCRIPTION:
        return str_eq(m->description, r->description);
    case RULE_BIT_DESTINATION_PORT:
        return rule_ranges_equal(m->destination_ports, m->destination_port_count, r->destination_ports,
                                 r->destination_port_count);
    case RULE_BIT_SOURCE_PORT:
        return rule_ranges_equal(m->source_ports, m->source_port_count, r->source_ports, r->source_port_count);
    case RULE_BIT_ICMP_TYPE:
        return m->type == r->type;
    case RULE_BIT_ICMP_CODE:
        return m->code == r->code;
    case RULE_BIT_NETWORK:
        return rule_ranges_equal(m->networks, m->network_count, r->networks, r->network_count);
    case RULE_BIT_COUNT:
        break;
    }
    return true;
}

bool rule_filter_matches(const struct rule_filter *f, const struct rule *r)
{
    for (enum rule_bit bit = 0; bit < RULE_BIT_COUNT; bit++)
        if ((f->present & (UINT64_C(1) << bit)) && !field_matches(f->match, r, bit))
            return false;
    return true;
}

void rule_filter_clear(struct rule_filter *f)
{
    rule_free(f->match);
    memset(f, 0, sizeof(*f));
}
