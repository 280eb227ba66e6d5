/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/network/ruleset.h"

struct ruleset *ruleset_new(void)
{
    struct ruleset *r = mem_new(struct ruleset);

    r->refs = 1;
    return r;
}

struct ruleset *ruleset_ref(struct ruleset *r)
{
    r->refs++;
    return r;
}

void ruleset_unref(struct ruleset *r)
{
    if (!r || --r->refs > 0)
        return;
    for (int d = 0; d < 2; d++) {
        for (size_t i = 0; i < r->count[d]; i++)
            rule_free(r->rules[d][i]);
        free(r->rules[d]);
    }
    free(r);
}

json_t *ruleset_to_json(const struct ruleset *r)
{
    json_t *j = json_object();

    for (int d = 0; d < 2; d++) {
        json_t *list = json_array();

        for (size_t i = 0; i < r->count[d]; i++)
            json_array_append_new(list, rule_to_json((enum rule_direction)d, r->rules[d][i]));
        json_object_set_new(j, rule_direction_name((enum rule_direction)d), list);
    }
    return j;
}

size_t ruleset_bytes(const struct ruleset *r)
{
    autojson j = ruleset_to_json(r);

    return json_dumpb(j, NULL, 0, JSON_COMPACT);
}

struct err *ruleset_from_json(const json_t *j, struct ruleset **ret)
{
    auto_(ruleset_unref) struct ruleset *r = ruleset_new();

    for (int d = 0; d < 2; d++) {
        const json_t *list = json_object_get(j, rule_direction_name((enum rule_direction)d));
        size_t n = json_array_size(list);

        r->rules[d] = mem_new_array(struct rule *, n);
        for (size_t i = 0; i < n; i++) {
            struct err *e = rule_load((enum rule_direction)d, json_array_get(list, i), &r->rules[d][i]);

            if (e)
                return err_wrap(e, "%s rule %zu", rule_direction_name((enum rule_direction)d), i);
            r->count[d]++;
        }
    }
    *ret = steal(&r);
    return NULL;
}
