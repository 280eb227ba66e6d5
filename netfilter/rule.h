/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A user's firewall rule: checked, normalised, comparable. Pure; any thread.
 *
 * The text members are what the API shows: blanks removed, host bits of networks cleared, ports without leading zeros.
 * The parsed members are what is compared and compiled: sorted, overlapping and adjacent ranges merged.
 * Rules are IPv4 as the API is. A tcp or udp rule that names no network (or one of prefix length 0, "everything")
 * applies to IPv6 as well; one that names a network applies to IPv4 only; icmp4 is IPv4 only.
 */
#pragma once

#include <stdint.h>

#include "base/err.h"
#include "base/json_table.h"

enum rule_direction { RULE_INGRESS, RULE_EGRESS };
enum rule_action { RULE_ALLOW, RULE_REJECT, RULE_DROP };
enum rule_protocol { RULE_TCP, RULE_UDP, RULE_ICMP4 };
enum rule_state { RULE_ENABLED, RULE_DISABLED };

#define RULE_MAX_COUNT 500      /* of one container, both directions together */
#define RULE_MAX_BYTES 262144   /* of one container, serialised */
#define RULE_MAX_EXPANSION 1024 /* kernel rules that one rule may become: networks x ports x source ports */
#define RULE_MAX_KERNEL 20000   /* kernel rules that all rules of one container may become */

/* First and last value, host byte order. */
struct rule_range {
    uint32_t first, last;
};

struct rule {
    int action, protocol, state; /* the enums above */
    char *description;           /* or NULL */
    char *source;                /* ingress only, or NULL */
    char *destination;           /* egress only, or NULL */
    char *destination_port, *source_port;
    char *icmp_type, *icmp_code;

    struct rule_range *networks, *destination_ports, *source_ports; /* NULL and 0: everything */
    size_t network_count, destination_port_count, source_port_count;
    int type, code; /* -1: everything */
};

const char *rule_direction_name(enum rule_direction direction); /* "ingress", "egress" */

/* Body of an add, or a stored rule. ERR_INVALID with the field's name. The caller frees *ret. */
MUST_USE struct err *rule_load(enum rule_direction direction, const json_t *body, struct rule **ret);
/* The rule as the API shows it; absent members are left out, description may be null. */
json_t *rule_to_json(enum rule_direction direction, const struct rule *r);
/* Same effect: all but description and state. */
bool rule_same(const struct rule *a, const struct rule *b);
/* A number of its effect: the same for two rules that rule_same calls the same. */
uint64_t rule_id(const struct rule *r);
/* How many kernel rules it becomes. */
size_t rule_expansion(const struct rule *r);
size_t rules_expansion(struct rule *const *list, size_t count); /* all of them, disabled ones too */
void rule_free(struct rule *r);
DEFINE_AUTO(struct rule, rule_free)

/* Body of a toggle or a remove: every rule field is optional and narrows the match. */
enum rule_filter_kind {
    RULE_FILTER_TOGGLE, /* "state" is required and is the new state, not a filter */
    RULE_FILTER_REMOVE, /* "all" is allowed, "state" is a filter */
};
struct rule_filter {
    bool all;           /* remove: every match, not the first one only */
    int new_state;      /* toggle: enum rule_state */
    struct rule *match; /* values to compare */
    uint64_t present;   /* which of them */
};
MUST_USE struct err *rule_filter_load(enum rule_direction direction, enum rule_filter_kind kind, const json_t *body,
                                      struct rule_filter *ret);
bool rule_filter_matches(const struct rule_filter *f, const struct rule *r);
void rule_filter_clear(struct rule_filter *f);
