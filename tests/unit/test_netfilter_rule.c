/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include "base/str.h"
#include "netfilter/address.h"
#include "netfilter/rule.h"

static json_t *parse(const char *text)
{
    json_t *j = NULL;

    assert_ok(json_parse(text, strlen(text), "body", &j));
    return j;
}

static struct rule *load(enum rule_direction direction, const char *text)
{
    autojson j = parse(text);
    struct rule *r = NULL;

    assert_ok(rule_load(direction, j, &r));
    return r;
}

static void refused(enum rule_direction direction, const char *text, const char *field)
{
    autojson j = parse(text);
    struct rule *r = NULL;

    assert_err_field(rule_load(direction, j, &r), field);
    assert_null(r);
}

static void check_shown(enum rule_direction direction, const char *in, const char *out)
{
    auto_(rule_free) struct rule *r = load(direction, in);
    autojson shown = rule_to_json(direction, r);
    autojson wanted = parse(out);

    if (!json_equal(shown, wanted))
        fail_msg("%s became %s", in, json_dumps(shown, 0));
}

static void test_normal_form(void **state)
{
    (void)state;
    check_shown(
        RULE_INGRESS,
        "{\"action\":\"allow\",\"protocol\":\"tcp\",\"description\":\"web\",\"source\":\" 10.1.2.3/8, "
        "192.0.2.7\",\"destination_port\":\"0080, 443 ,8000-8010\"}",
        "{\"action\":\"allow\",\"protocol\":\"tcp\",\"description\":\"web\",\"source\":\"10.0.0.0/8,192.0.2.7\","
        "\"destination_port\":\"80,443,8000-8010\",\"state\":\"enabled\"}");
    check_shown(
        RULE_EGRESS,
        "{\"action\":\"reject\",\"protocol\":\"icmp4\",\"destination\":\"203.0.113.50/32\",\"icmp_type\":\"8\","
        "\"icmp_code\":\"0\",\"state\":\"disabled\"}",
        "{\"action\":\"reject\",\"protocol\":\"icmp4\",\"description\":null,\"destination\":\"203.0.113.50/32\","
        "\"icmp_type\":\"8\",\"icmp_code\":\"0\",\"state\":\"disabled\"}");
}

static void test_stored_rule_loads_again(void **state)
{
    auto_(rule_free) struct rule *a =
        load(RULE_EGRESS, "{\"action\":\"drop\",\"protocol\":\"udp\",\"destination\":\"10.0.0.0/9,10.128.0.0/9\","
                          "\"source_port\":\"53\",\"description\":null}");
    autojson j = rule_to_json(RULE_EGRESS, a);
    auto_(rule_free) struct rule *b = NULL;

    (void)state;
    assert_ok(rule_load(RULE_EGRESS, j, &b));
    assert_true(rule_same(a, b));
    assert_int_equal(a->network_count, 1); /* two halves touch */
    assert_int_equal(a->networks[0].first, 0x0a000000);
    assert_int_equal(a->networks[0].last, 0x0affffff);
}

static void test_everything_is_no_network(void **state)
{
    auto_(rule_free) struct rule *all =
        load(RULE_INGRESS, "{\"action\":\"drop\",\"protocol\":\"tcp\",\"source\":\"0.0.0.0/0\"}");
    auto_(rule_free) struct rule *none = load(RULE_INGRESS, "{\"action\":\"drop\",\"protocol\":\"tcp\"}");
    auto_(rule_free) struct rule *ports =
        load(RULE_INGRESS, "{\"action\":\"drop\",\"protocol\":\"tcp\",\"destination_port\":\"1-1000,1001-65535\"}");

    (void)state;
    assert_int_equal(all->network_count, 0);
    assert_string_equal(all->source, "0.0.0.0/0");
    assert_true(rule_same(all, none));
    assert_true(rule_same(ports, none));
    assert_true(rule_id(ports) == rule_id(none) && rule_id(all) == rule_id(none));
}

static void test_errors_name_the_field(void **state)
{
    static const struct {
        const char *text, *field;
    } rows[] = {
        {"{\"protocol\":\"tcp\"}", "action"},
        {"{\"action\":\"allow\"}", "protocol"},
        {"{\"action\":\"accept\",\"protocol\":\"tcp\"}", "action"},
        {"{\"action\":\"allow\",\"protocol\":\"icmp\"}", "protocol"},
        {"{\"action\":\"allow\",\"protocol\":\"tcp\",\"destination\":\"10.0.0.1\"}", "destination"},
        {"{\"action\":\"allow\",\"protocol\":\"tcp\",\"source\":\"::1\"}", "source"},
        {"{\"action\":\"allow\",\"protocol\":\"tcp\",\"source\":\"10.0.0.1/33\"}", "source"},
        {"{\"action\":\"allow\",\"protocol\":\"tcp\",\"source\":\"10.0.0.1/-1\"}", "source"},
        {"{\"action\":\"allow\",\"protocol\":\"tcp\",\"source\":\"\"}", "source"},
        {"{\"action\":\"allow\",\"protocol\":\"tcp\",\"source\":\"10.0.0.1,\"}", "source"},
        {"{\"action\":\"allow\",\"protocol\":\"tcp\",\"source\":\"10.0.0\"}", "source"},
        {"{\"action\":\"allow\",\"protocol\":\"tcp\",\"destination_port\":\"0\"}", "destination_port"},
        {"{\"action\":\"allow\",\"protocol\":\"tcp\",\"destination_port\":\"65536\"}", "destination_port"},
        {"{\"action\":\"allow\",\"protocol\":\"tcp\",\"destination_port\":\"90-80\"}", "destination_port"},
        {"{\"action\":\"allow\",\"protocol\":\"tcp\",\"destination_port\":\"80;drop\"}", "destination_port"},
        {"{\"action\":\"allow\",\"protocol\":\"tcp\",\"destination_port\":80}", "destination_port"},
        {"{\"action\":\"allow\",\"protocol\":\"udp\",\"source_port\":\"-\"}", "source_port"},
        {"{\"action\":\"allow\",\"protocol\":\"tcp\",\"icmp_type\":\"8\"}", "icmp_type"},
        {"{\"action\":\"allow\",\"protocol\":\"icmp4\",\"icmp_code\":\"0\"}", "icmp_code"},
        {"{\"action\":\"allow\",\"protocol\":\"icmp4\",\"icmp_type\":\"256\"}", "icmp_type"},
        {"{\"action\":\"allow\",\"protocol\":\"icmp4\",\"destination_port\":\"80\"}", "destination_port"},
        {"{\"action\":\"allow\",\"protocol\":\"icmp4\",\"source_port\":\"80\"}", "source_port"},
        {"{\"action\":\"allow\",\"protocol\":\"tcp\",\"state\":\"on\"}", "state"},
        {"{\"action\":\"allow\",\"protocol\":\"tcp\",\"description\":\"a\\nb\"}", "description"},
        {"{\"action\":\"allow\",\"protocol\":\"tcp\",\"priority\":1}", "priority"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        refused(RULE_INGRESS, rows[i].text, rows[i].field);
    refused(RULE_EGRESS, "{\"action\":\"allow\",\"protocol\":\"tcp\",\"source\":\"10.0.0.1\"}", "source");
}

static void test_expansion_is_bounded(void **state)
{
    autofree char *source = str_dup("10.0.0.1"), *body = NULL;

    (void)state;
    for (int i = 3; i < 90; i += 2) {
        char *longer = str_fmt("%s,10.0.0.%d", source, i);

        free(source);
        source = longer;
    }
    body = str_fmt("{\"action\":\"drop\",\"protocol\":\"tcp\",\"source\":\"%s\",\"destination_port\":"
                   "\"1,3,5,7,9,11,13,15,17,19,21,23,25,27,29\",\"source_port\":\"1,3,5\"}",
                   source);
    refused(RULE_INGRESS, body, "source");
}

static void test_duplicates(void **state)
{
    auto_(rule_free) struct rule *a =
        load(RULE_INGRESS, "{\"action\":\"allow\",\"protocol\":\"tcp\",\"source\":\"10.0.0.5/24\",\"destination_port\":"
                           "\"80,81\",\"description\":\"one\"}");
    auto_(rule_free) struct rule *b =
        load(RULE_INGRESS, "{\"action\":\"allow\",\"protocol\":\"tcp\",\"source\":\"10.0.0.0/24\",\"destination_port\":"
                           "\"80-81\",\"description\":\"two\",\"state\":\"disabled\"}");
    auto_(rule_free) struct rule *c =
        load(RULE_INGRESS,
             "{\"action\":\"drop\",\"protocol\":\"tcp\",\"source\":\"10.0.0.0/24\",\"destination_port\":\"80-81\"}");

    (void)state;
    assert_true(rule_same(a, b));
    assert_true(rule_id(a) == rule_id(b));
    assert_false(rule_same(a, c));
    assert_false(rule_id(a) == rule_id(c));
}

static bool matches(enum rule_filter_kind kind, const char *filter, const struct rule *r)
{
    autojson j = parse(filter);
    struct rule_filter f = {0};
    bool result;

    assert_ok(rule_filter_load(RULE_INGRESS, kind, j, &f));
    result = rule_filter_matches(&f, r);
    rule_filter_clear(&f);
    return result;
}

static void test_filters(void **state)
{
    auto_(rule_free) struct rule *r = load(
        RULE_INGRESS, "{\"action\":\"allow\",\"protocol\":\"tcp\",\"source\":\"192.0.2.0/24\",\"destination_port\":"
                      "\"80,443\",\"description\":\"web\"}");

    (void)state;
    assert_true(matches(RULE_FILTER_REMOVE, "{}", r));
    assert_true(matches(RULE_FILTER_REMOVE, "{\"all\":true,\"state\":\"enabled\"}", r));
    assert_false(matches(RULE_FILTER_REMOVE, "{\"state\":\"disabled\"}", r));
    assert_true(matches(RULE_FILTER_TOGGLE, "{\"state\":\"disabled\"}", r)); /* the new state, not a filter */
    assert_true(matches(RULE_FILTER_REMOVE, "{\"source\":\"192.0.2.77/24\"}", r));
    assert_false(matches(RULE_FILTER_REMOVE, "{\"source\":\"192.0.2.0/25\"}", r));
    assert_true(matches(RULE_FILTER_REMOVE, "{\"destination_port\":\"443,80\",\"action\":\"allow\"}", r));
    assert_false(matches(RULE_FILTER_REMOVE, "{\"destination_port\":\"443\"}", r));
    assert_false(matches(RULE_FILTER_REMOVE, "{\"protocol\":\"udp\"}", r));
    assert_true(matches(RULE_FILTER_REMOVE, "{\"description\":\"web\",\"icmp_type\":null}", r));
    assert_false(matches(RULE_FILTER_REMOVE, "{\"description\":\"ssh\"}", r));
    assert_false(matches(RULE_FILTER_REMOVE, "{\"icmp_type\":\"8\"}", r));
}

static void filter_refused(enum rule_filter_kind kind, const char *text, const char *field)
{
    autojson j = parse(text);
    struct rule_filter f = {0};

    assert_err_field(rule_filter_load(RULE_INGRESS, kind, j, &f), field);
    assert_null(f.match);
}

static void test_filter_errors(void **state)
{
    struct rule_filter f = {0};
    autojson j = parse("{\"all\":true}");

    (void)state;
    filter_refused(RULE_FILTER_TOGGLE, "{}", "state");
    filter_refused(RULE_FILTER_TOGGLE, "{\"state\":\"on\"}", "state");
    filter_refused(RULE_FILTER_TOGGLE, "{\"state\":\"enabled\",\"all\":true}", "all");
    filter_refused(RULE_FILTER_REMOVE, "{\"all\":1}", "all");
    filter_refused(RULE_FILTER_REMOVE, "{\"source\":\"x\"}", "source");
    filter_refused(RULE_FILTER_REMOVE, "[]", "body");
    assert_ok(rule_filter_load(RULE_INGRESS, RULE_FILTER_REMOVE, j, &f));
    assert_true(f.all);
    rule_filter_clear(&f);
    assert_ok(rule_filter_load(RULE_INGRESS, RULE_FILTER_REMOVE, NULL, &f));
    assert_false(f.all);
    rule_filter_clear(&f);
}

static void test_addresses(void **state)
{
    struct net_plan plan;
    struct slot_net n;

    (void)state;
    assert_ok(net_plan_init(&plan, "nd", "10.96.0.0/16", "fd6e:6f64:6564::/64"));
    assert_int_equal(net_plan_max_slot(&plan), NET_SLOT_MAX);
    slot_net_init(&plan, 1, &n);
    assert_string_equal(n.ipv4, "10.96.0.1");
    assert_string_equal(n.ipv6, "fd6e:6f64:6564::1");
    assert_string_equal(n.ifname, "nd1");
    assert_string_equal(n.peer, "ndp1");
    slot_net_init(&plan, 16383, &n);
    assert_string_equal(n.ipv4, "10.96.63.255");
    assert_string_equal(n.ipv6, "fd6e:6f64:6564::3fff");
    assert_string_equal(n.mac_host, "02:6e:64:00:3f:ff");
    assert_string_equal(n.mac_container, "02:6e:65:00:3f:ff");
    assert_int_equal(net_plan_slot_of(&plan, "nd7"), 7);
    assert_int_equal(net_plan_slot_of(&plan, "ndp16383"), 16383);
    assert_int_equal(net_plan_slot_of(&plan, "ndp"), 0);
    assert_int_equal(net_plan_slot_of(&plan, "nd07"), 0);
    assert_int_equal(net_plan_slot_of(&plan, "nd7x"), 0);
    assert_int_equal(net_plan_slot_of(&plan, "nd16384"), 0);
    assert_int_equal(net_plan_slot_of(&plan, "eth0"), 0);
}

static void test_small_pools(void **state)
{
    struct net_plan plan;

    (void)state;
    assert_ok(net_plan_init(&plan, "nd", "10.0.0.0/24", "fd00::/64"));
    assert_int_equal(net_plan_max_slot(&plan), 254);
    assert_ok(net_plan_init(&plan, "nd", "10.0.0.0/18", "fd00::/64"));
    assert_int_equal(net_plan_max_slot(&plan), 16382); /* the last one is the broadcast address */
    assert_err_field(net_plan_init(&plan, "n1", "10.0.0.0/24", "fd00::/64"), "veth_prefix");
    assert_err_field(net_plan_init(&plan, "toolongname", "10.0.0.0/24", "fd00::/64"), "veth_prefix");
    assert_err_field(net_plan_init(&plan, "nd", "10.0.0.1/24", "fd00::/64"), "ipv4_pool");
    assert_err_field(net_plan_init(&plan, "nd", "10.0.0.0", "fd00::/64"), "ipv4_pool");
    assert_err_field(net_plan_init(&plan, "nd", "10.0.0.0/24", "fd00::1/64"), "ipv6_pool");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_normal_form),
        cmocka_unit_test(test_stored_rule_loads_again),
        cmocka_unit_test(test_everything_is_no_network),
        cmocka_unit_test(test_errors_name_the_field),
        cmocka_unit_test(test_expansion_is_bounded),
        cmocka_unit_test(test_duplicates),
        cmocka_unit_test(test_filters),
        cmocka_unit_test(test_filter_errors),
        cmocka_unit_test(test_addresses),
        cmocka_unit_test(test_small_pools),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
