/* SPDX-License-Identifier: Apache-2.0 */
/* The fields of a rule's JSON forms, shared by the add body and the filters. */
#pragma once

#include "netfilter/rule.h"

extern const char *const rule_actions[], *const rule_protocols[], *const rule_states[];

/* In this order everywhere, so that bit numbers of `present` agree. The last row is "source" or "destination". */
enum rule_bit {
    RULE_BIT_ACTION,
    RULE_BIT_PROTOCOL,
    RULE_BIT_STATE,
    RULE_BIT_DESCRIPTION,
    RULE_BIT_DESTINATION_PORT,
    RULE_BIT_SOURCE_PORT,
    RULE_BIT_ICMP_TYPE,
    RULE_BIT_ICMP_CODE,
    RULE_BIT_NETWORK,
    RULE_BIT_COUNT
};

/* clang-format off */
#define RULE_FIELDS(needed)                                                                                            \
    F_ENUM(struct rule, action, rule_actions, .required = (needed)),                                                   \
    F_ENUM(struct rule, protocol, rule_protocols, .required = (needed)),                                               \
    F_ENUM(struct rule, state, rule_states),                                                                           \
    F_STRING(struct rule, description, .nullable = true, .max = 255),                                                  \
    F_STRING(struct rule, destination_port, .nullable = true, .min = 1, .max = 64),                                    \
    F_STRING(struct rule, source_port, .nullable = true, .min = 1, .max = 64),                                         \
    F_STRING(struct rule, icmp_type, .nullable = true, .min = 1, .max = 8),                                            \
    F_STRING(struct rule, icmp_code, .nullable = true, .min = 1, .max = 8)
/* clang-format on */

/* Fills the parsed members from the text members and checks what belongs to which protocol. `whole` is false for
 * a filter, whose protocol may be unknown. */
MUST_USE struct err *rule_normalise(enum rule_direction direction, struct rule *r, bool whole);
bool rule_ranges_equal(const struct rule_range *a, size_t a_count, const struct rule_range *b, size_t b_count);
