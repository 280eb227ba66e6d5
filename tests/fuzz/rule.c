/* SPDX-License-Identifier: Apache-2.0 */
/* A firewall rule or filter as a client may send it; first byte: direction, kind. What was taken is taken again as it
 * is shown, means the same, and becomes as many kernel rules as was said. */
#include "base/json_table.h"
#include "netfilter/expr.h"
#include "netfilter/hits.h"
#include "netfilter/nf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

/* Not sent: there is no socket. */
static void compile(enum rule_direction direction, struct rule *r)
{
    static struct known known[NET_SLOT_MAX + 1];
    struct nf nf = {.table = (char *)(uintptr_t) "noded", .known = known};
    struct hits hits = {0};
    struct nl nl = {.seq = 1};
    struct batch batch;
    const struct build b = {.batch = &batch, .table = nf.table, .hits = &hits};
    struct nf_container c = {.slot = 3};
    struct rule *list[] = {r};
    uint32_t without;

    if (net_plan_init(&nf.plan, "nd", "10.96.0.0/16", "fd6e:6f64:6564::/64"))
        abort();
    for (int i = 0; i < NF_LISTS; i++)
        lists_name(nf.lists[i], nf.table, i);
    batch_init(&batch, &nl);
    if (plan_container(&nf, &b, &c))
        abort();
    without = batch.count;
    c.ingress = c.egress = list;
    c.ingress_count = direction == RULE_INGRESS;
    c.egress_count = direction == RULE_EGRESS;
    if (plan_container(&nf, &b, &c))
        abort();
    if (batch.count - 2 * without != (r->state == RULE_ENABLED ? rule_expansion(r) : 0))
        abort();
    batch_clear(&batch);
}

static void rule(enum rule_direction direction, const json_t *body)
{
    auto_(rule_free) struct rule *r = NULL;
    auto_(rule_free) struct rule *again = NULL;
    autojson shown = NULL;
    autojson same = NULL;
    struct err *e = rule_load(direction, body, &r);

    if (e) {
        err_free(e);
        return;
    }
    shown = rule_to_json(direction, r);
    e = rule_load(direction, shown, &again);
    if (e || !rule_same(r, again))
        abort();
    same = rule_to_json(direction, again);
    if (!json_equal(shown, same) || rule_expansion(r) > RULE_MAX_EXPANSION)
        abort();
    compile(direction, r);
}

static void filter(enum rule_direction direction, enum rule_filter_kind kind, const json_t *body)
{
    struct rule_filter f;
    auto_(rule_free) struct rule *r = NULL;
    struct err *e = rule_filter_load(direction, kind, body, &f);

    if (e) {
        err_free(e);
        return;
    }
    e = rule_load(direction, body, &r);
    if (!e && kind == RULE_FILTER_REMOVE && !rule_filter_matches(&f, r))
        abort(); /* a rule is found by all its own fields */
    err_free(e);
    rule_filter_clear(&f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    enum rule_direction direction = len && data[0] & 1 ? RULE_EGRESS : RULE_INGRESS;
    autojson body = NULL;
    struct err *e = len ? json_parse((const char *)data + 1, len - 1, "body", &body) : NULL;

    if (e || !body) {
        err_free(e);
        return 0;
    }
    rule(direction, body);
    filter(direction, RULE_FILTER_TOGGLE, body);
    filter(direction, RULE_FILTER_REMOVE, body);
    return 0;
}
