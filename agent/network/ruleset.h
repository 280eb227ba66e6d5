/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The firewall rules of a container, in the user's order. A ruleset is never changed: a change makes a new one, so that
 * the network lane can read the old one meanwhile. References are counted on the loop only.
 */
#pragma once

#include "netfilter/rule.h"

struct ruleset {
    unsigned refs;
    struct rule **rules[2]; /* by enum rule_direction */
    size_t count[2];
};

struct ruleset *ruleset_new(void);
struct ruleset *ruleset_ref(struct ruleset *r);
void ruleset_unref(struct ruleset *r);
DEFINE_AUTO(struct ruleset, ruleset_unref)

/* {"ingress": [rule...], "egress": [rule...]} */
json_t *ruleset_to_json(const struct ruleset *r);
/* Of that, without blanks. */
size_t ruleset_bytes(const struct ruleset *r);
MUST_USE struct err *ruleset_from_json(const json_t *j, struct ruleset **ret);
