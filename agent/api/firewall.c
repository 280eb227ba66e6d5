/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The firewall of a container (contract, section 2.4). A change makes a new ruleset, records it, applies it to the
 * kernel as one batch, and only then answers. When the kernel refuses, the record goes back to the old rules.
 */
#include "agent/api/api.h"
#include "agent/events/event.h"
#include "base/str.h"

/* A change under way: commit, apply, and on a refusal commit the old rules again. */
struct change {
    struct agent *agent;
    char *container_id; /* it may be deleted meanwhile */
    struct ruleset *before, *after;
    struct http_request *req;
    int status;
    const char *message;
    json_t *data;
    struct err *error;
};

static void change_end(struct change *ch)
{
    if (ch->error)
        reply_err(ch->req, ch->error);
    else
        reply_ok(ch->req, ch->status, ch->message, steal(&ch->data));
    ruleset_unref(ch->before);
    ruleset_unref(ch->after);
    json_decref(ch->data);
    free(ch->container_id);
    free(ch);
}

static void on_restored(void *owner, struct err *e)
{
    struct change *ch = owner;

    ch->error = err_first(ch->error, e);
    change_end(ch);
}

/* A refused transaction leaves the old rules, but a table that was made anew meanwhile may have none. */
static void on_undone(void *owner, struct err *e)
{
    struct change *ch = owner;
    struct container *c = agent_find(ch->agent, ch->container_id);

    ch->error = err_first(ch->error, e);
    if (c && c->init_pid)
        net_rules(ch->agent, c, false, ch, on_restored);
    else
        change_end(ch);
}

static void tell_rule(struct agent *a, struct store_tx *tx, const struct container *c, const char *what, int direction,
                      const struct rule *rule)
{
    autofree char *type = str_fmt("firewall.rule.%s", what);

    event_add_for(a, tx, type, "firewall", c->record.id, c->record.project_id, c->record.id,
                  json_pack("{s:s, s:o}", "direction", rule_direction_name((enum rule_direction)direction), "rule",
                            rule_to_json((enum rule_direction)direction, rule)));
}

/* The events of a change from one set to another. No change moves a rule: both lists are walked side by side, and what
 * stands in one only was added or removed as the lists grow or shrink. */
static void tell_change(struct agent *a, struct store_tx *tx, const struct container *c, const struct ruleset *from,
                        const struct ruleset *to)
{
    for (int d = 0; d < 2; d++) {
        size_t i = 0, k = 0;

        while (i < from->count[d] || k < to->count[d]) {
            const struct rule *was = i < from->count[d] ? from->rules[d][i] : NULL;
            const struct rule *is = k < to->count[d] ? to->rules[d][k] : NULL;

            if (was && is && rule_same(was, is)) {
                if (was->state != is->state)
                    tell_rule(a, tx, c, is->state == RULE_ENABLED ? "enabled" : "disabled", d, is);
                i++;
                k++;
            } else if (was && (!is || to->count[d] < from->count[d])) {
                tell_rule(a, tx, c, "removed", d, was);
                i++;
            } else {
                tell_rule(a, tx, c, "added", d, is);
                k++;
            }
        }
    }
}

/* Back to the old rules, unless somebody has changed them again. */
static void put_back(struct change *ch, struct container *c, struct store_tx *tx)
{
    if (!c || c->rules != ch->after)
        return;
    ruleset_unref(c->rules);
    c->rules = ruleset_ref(ch->before);
    if (tx) {
        record_put_rules(tx, c, c->rules);
        tell_change(ch->agent, tx, c, ch->after, ch->before);
    }
}

static void undo(struct change *ch, struct err *e)
{
    struct store_tx *tx = store_tx_new();

    ch->error = err_reason(err_recode(e, ERR_UNAVAILABLE), "FIREWALL_HOST_UNAVAILABLE");
    ch->error->retry_after_s = 2;
    /* A rebuild of the whole table may fail for another container's rule: that is no field of this request. */
    if (!str_eq(json_string_value(json_object_get(e->data, "container_id")), ch->container_id))
        ch->error = err_at(ch->error, NULL);
    put_back(ch, agent_find(ch->agent, ch->container_id), tx);
    agent_commit(ch->agent, tx, ch, on_undone);
}

static void on_applied(void *owner, struct err *e)
{
    struct change *ch = owner;

    if (e)
        undo(ch, e);
    else
        change_end(ch);
}

static void on_recorded(void *owner, struct err *e)
{
    struct change *ch = owner;
    struct container *c = agent_find(ch->agent, ch->container_id);

    if (e) {
        put_back(ch, c, NULL);
        ch->error = e;
    }
    /* Without an init its start applies the rules, when it comes to that. */
    if (!e && c && c->init_pid)
        net_rules(ch->agent, c, false, ch, on_applied);
    else
        change_end(ch);
}

/* Takes over rules and data. */
static void change_rules(struct api_call *call, struct ruleset *rules, int status, const char *message, json_t *data)
{
    struct container *c = call->container;
    struct err *e = container_check_staying(c);
    struct change *ch;
    struct store_tx *tx;

    if (e) {
        ruleset_unref(rules);
        json_decref(data);
        reply_err(call->req, e);
        return;
    }
    ch = mem_new(struct change);
    tx = store_tx_new();
    *ch = (struct change){.agent = call->agent,
                          .container_id = str_dup(c->record.id),
                          .before = c->rules,
                          .after = ruleset_ref(rules),
                          .req = call->req,
                          .status = status,
                          .message = message,
                          .data = data};
    c->rules = rules;
    record_put_rules(tx, c, rules);
    tell_change(call->agent, tx, c, ch->before, rules);
    agent_commit(call->agent, tx, ch, on_recorded);
}

static enum rule_direction direction_of(const struct api_call *call)
{
    return str_eq(call->params[1], "egress") ? RULE_EGRESS : RULE_INGRESS;
}

/* A copy of the rules without those that `skip` names (may be NULL), with an extra one at the end of a direction (may
 * be NULL, is taken over). */
static struct ruleset *changed_copy(const struct ruleset *from, const bool *skip, enum rule_direction d,
                                    struct rule *extra)
{
    struct ruleset *r = ruleset_new();

    for (int i = 0; i < 2; i++) {
        r->rules[i] = mem_new_array(struct rule *, from->count[i] + 1);
        for (size_t k = 0; k < from->count[i]; k++) {
            autojson j = rule_to_json((enum rule_direction)i, from->rules[i][k]);

            if (skip && i == (int)d && skip[k])
                continue;
            err_ignore(rule_load((enum rule_direction)i, j, &r->rules[i][r->count[i]]));
            r->count[i]++;
        }
    }
    if (extra)
        r->rules[d][r->count[d]++] = extra;
    return r;
}

static struct err *check_limits(const struct api_call *call, const struct ruleset *r)
{
    const struct container *c = call->container;
    size_t bytes = ruleset_bytes(r), count = r->count[0] + r->count[1];
    size_t kernel_rules = rules_expansion(r->rules[0], r->count[0]) + rules_expansion(r->rules[1], r->count[1]);

    if (count > RULE_MAX_COUNT)
        return err_data(err_reason(err_new(ERR_LIMIT, "A container has at most %d firewall rules", RULE_MAX_COUNT),
                                   "CONTAINER_FIREWALL_RULE_LIMIT"),
                        json_pack("{s:s, s:s, s:s, s:I, s:i}", "field", "rules", "container_id", c->record.id,
                                  "server_id", call->agent->node_id, "current_count", (json_int_t)count - 1, "limit",
                                  RULE_MAX_COUNT));
    if (bytes > RULE_MAX_BYTES)
        return err_data(
            err_reason(err_new(ERR_LIMIT, "A container's firewall rules have at most %d bytes", RULE_MAX_BYTES),
                       "CONTAINER_FIREWALL_BYTES_LIMIT"),
            json_pack("{s:s, s:s, s:I, s:i}", "field", "rules", "container_id", c->record.id, "current_bytes",
                      (json_int_t)bytes, "limit", RULE_MAX_BYTES));
    if (kernel_rules > RULE_MAX_KERNEL)
        return err_data(
            err_reason(err_new(ERR_LIMIT, "A container's firewall rules have at most %d combinations", RULE_MAX_KERNEL),
                       "CONTAINER_FIREWALL_RULE_LIMIT"),
            json_pack("{s:s, s:s, s:I, s:i}", "field", "rules", "container_id", c->record.id, "current_combinations",
                      (json_int_t)kernel_rules, "limit", RULE_MAX_KERNEL));
    return NULL;
}

static bool answer_duplicate(struct api_call *call, enum rule_direction d, const struct rule *rule)
{
    const struct ruleset *r = call->container->rules;

    for (size_t i = 0; i < r->count[d]; i++) {
        json_t *j;

        if (!rule_same(r->rules[d][i], rule))
            continue;
        j = rule_to_json(d, r->rules[d][i]);
        json_object_set_new(j, "duplicate", json_true());
        json_object_set_new(j, "duplicate_of",
                            json_pack("{s:s, s:I}", "direction", rule_direction_name(d), "index", (json_int_t)i));
        reply_ok(call->req, 200, "Rule already exists", j);
        return true;
    }
    return false;
}

void firewall_add(struct api_call *call)
{
    enum rule_direction d = direction_of(call);
    struct ruleset *rules;
    struct rule *rule = NULL;
    struct err *e = rule_load(d, call->body, &rule);

    if (e) {
        reply_err(call->req, e);
        return;
    }
    if (answer_duplicate(call, d, rule)) {
        rule_free(rule);
        return;
    }
    rules = changed_copy(call->container->rules, NULL, d, rule);
    e = check_limits(call, rules);
    if (e) {
        ruleset_unref(rules);
        reply_err(call->req, e);
        return;
    }
    change_rules(call, rules, 201,
                 d == RULE_INGRESS ? "Ingress rule added successfully" : "Egress rule added successfully",
                 ruleset_to_json(rules));
}

static struct err *no_match(void)
{
    return err_reason(err_new(ERR_NOT_FOUND, "No firewall rule matches"), "RESOURCE_NOT_FOUND");
}

void firewall_toggle(struct api_call *call)
{
    const struct ruleset *before = call->container->rules;
    enum rule_direction d = direction_of(call);
    struct rule_filter f = {0};
    struct ruleset *rules;
    size_t i = 0;
    struct err *e = rule_filter_load(d, RULE_FILTER_TOGGLE, call->body, &f);

    if (e) {
        reply_err(call->req, e);
        return;
    }
    while (i < before->count[d] && !rule_filter_matches(&f, before->rules[d][i]))
        i++;
    if (i == before->count[d]) {
        reply_err(call->req, no_match());
    } else {
        rules = changed_copy(before, NULL, d, NULL);
        rules->rules[d][i]->state = f.new_state;
        change_rules(call, rules, 200, "Firewall rule updated successfully",
                     json_pack("{s:s, s:s, s:o}", "direction", rule_direction_name(d), "new_state",
                               f.new_state == RULE_ENABLED ? "enabled" : "disabled", "updated",
                               rule_to_json(d, rules->rules[d][i])));
    }
    rule_filter_clear(&f);
}

void firewall_remove(struct api_call *call)
{
    const struct ruleset *before = call->container->rules;
    enum rule_direction d = direction_of(call);
    autofree bool *skip = mem_new_array(bool, before->count[d]);
    json_t *removed = json_array();
    struct rule_filter f = {0};
    struct err *e = rule_filter_load(d, RULE_FILTER_REMOVE, call->body, &f);

    for (size_t i = 0; !e && i < before->count[d]; i++) {
        skip[i] = (f.all || json_array_size(removed) == 0) && rule_filter_matches(&f, before->rules[d][i]);
        if (skip[i])
            json_array_append_new(removed, rule_to_json(d, before->rules[d][i]));
    }
    if (!e && json_array_size(removed) == 0 && !f.all)
        e = no_match();
    rule_filter_clear(&f);
    if (e) {
        json_decref(removed);
        reply_err(call->req, e);
        return;
    }
    change_rules(call, changed_copy(before, skip, d, NULL), 200, "Firewall rules removed successfully",
                 json_pack("{s:s, s:I, s:o}", "direction", rule_direction_name(d), "removed_count",
                           (json_int_t)json_array_size(removed), "removed", removed));
}

void firewall_reset(struct api_call *call)
{
    change_rules(call, ruleset_new(), 200, "Firewall reset successfully",
                 json_pack("{s:{s:[], s:[]}}", "rules", "ingress", "egress"));
}
