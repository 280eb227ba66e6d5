/* SPDX-License-Identifier: Apache-2.0 */
/* The rules of a container, and on request what each has counted: that is asked of the kernel. */
#include "agent/api/api.h"

struct listing {
    struct http_request *req;
    struct ruleset *rules;
};

static void answer(struct http_request *req, const struct ruleset *r, json_t *j)
{
    json_object_set_new(j, "rule_count", json_integer((json_int_t)(r->count[0] + r->count[1])));
    json_object_set_new(j, "byte_count", json_integer((json_int_t)ruleset_bytes(r)));
    json_object_set_new(j, "max_rules", json_integer(RULE_MAX_COUNT));
    json_object_set_new(j, "max_bytes", json_integer(RULE_MAX_BYTES));
    reply_ok(req, 200, "Firewall rules retrieved successfully", j);
}

/* hits NULL: the container is not up. A rule that is not in the kernel has null. */
static json_t *with_counters(const struct ruleset *r, const struct nf_hits *const hits[2])
{
    json_t *j = ruleset_to_json(r);

    for (int d = 0; d < 2; d++) {
        json_t *list = json_object_get(j, rule_direction_name((enum rule_direction)d));

        for (size_t i = 0; i < r->count[d]; i++) {
            bool counts = hits && r->rules[d][i]->state == RULE_ENABLED;

            json_object_set_new(json_array_get(list, i), "counters",
                                counts ? json_pack("{s:I, s:I}", "packets", (json_int_t)hits[d][i].packets, "bytes",
                                                   (json_int_t)hits[d][i].bytes)
                                       : json_null());
        }
    }
    return j;
}

static void on_hits(void *owner, struct err *e, const struct nf_hits *const hits[2])
{
    struct listing *l = owner;

    if (e) {
        e = err_reason(err_recode(e, ERR_UNAVAILABLE), "FIREWALL_HOST_UNAVAILABLE");
        e->retry_after_s = 2;
        reply_err(l->req, e);
    } else {
        answer(l->req, l->rules, with_counters(l->rules, hits));
    }
    ruleset_unref(l->rules);
    free(l);
}

void firewall_list(struct api_call *call)
{
    struct container *c = call->container;
    bool counters;
    struct err *e = query_bool(call, "counters", &counters);
    struct listing *l;

    if (e) {
        reply_err(call->req, e);
    } else if (!counters) {
        answer(call->req, c->rules, ruleset_to_json(c->rules));
    } else if (!c->init_pid) {
        answer(call->req, c->rules, with_counters(c->rules, NULL));
    } else {
        l = mem_new(struct listing);
        *l = (struct listing){.req = call->req, .rules = ruleset_ref(c->rules)};
        net_hits(call->agent, c, l, on_hits);
    }
}
