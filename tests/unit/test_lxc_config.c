/* SPDX-License-Identifier: Apache-2.0 */
#include "runtime/container/lxc_config.h"
#include "scratch.h"

#include <lxc/lxccontainer.h>
#include <stdio.h>
#include <unistd.h>

#include "base/str.h"
#include "test.h"

static void values(UNUSED void **state)
{
    static const char *const bad[] = {"", "a\nlxc.hook.start = /bin/sh", "a\r", "\t", "a\x7f", NULL};

    assert_true(lxc_value_ok("A=b c = d # e \"f\" 'g' \xc3\xa4"));
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_false(lxc_value_ok(bad[i]));
}

static void paths(UNUSED void **state)
{
    static const char *const bad[] = {"relative", "/a b", "/a\\040b", "/a/../b", "/a/..", "/a\nb", "", NULL};

    assert_true(lxc_path_ok("/var/lib/noded/pool/kits/web-1.0/files"));
    assert_true(lxc_path_ok("/a..b"));
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_false(lxc_path_ok(bad[i]));
}

static void environment_names(UNUSED void **state)
{
    static const char *const bad[] = {"", "1A", "A-B", "A=B", "A B", "A\n", "\xc3\x84", NULL};

    assert_true(lxc_environment_name_ok("HOODY_CONTAINER_ID"));
    assert_true(lxc_environment_name_ok("_"));
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_false(lxc_environment_name_ok(bad[i]));
}

struct place {
    struct job job;
    struct job_start start;
    struct lxc_container *c;
    char dir[64];
};

static int set_up(void **state)
{
    struct place *p = mem_new(struct place);

    (void)snprintf(p->dir, sizeof(p->dir), "/tmp/noded-config-%d", (int)getpid());
    p->job = (struct job){.target = {.pool = p->dir, .run_dir = p->dir, .cgroup = str_dup("noded"), .slot = 5},
                          .name = str_dup("c5"),
                          .dir = str_fmt("%s/c5", p->dir)};
    p->start = (struct job_start){.hostname = str_dup("box"),
                                  .id_base = 1000262144,
                                  .link = str_dup("ndp5"),
                                  .ipv4 = str_dup("10.96.0.5"),
                                  .ipv6 = str_dup("fd6e::5"),
                                  .gateway4 = str_dup("169.254.1.1"),
                                  .gateway6 = str_dup("fe80::1"),
                                  .environment = json_object(),
                                  .kits = json_array()};
    p->c = lxc_container_new("c5", p->dir);
    assert_non_null(p->c);
    *state = p;
    return 0;
}

static int tear_down(void **state)
{
    struct place *p = *state;

    lxc_container_put(p->c);
    scratch_remove(p->dir);
    json_table_clear(&job_start_table, &p->start);
    free(p->job.target.cgroup);
    free(p->job.name);
    free(p->job.dir);
    free(p);
    return 0;
}

static bool item_is(struct lxc_container *c, const char *key, const char *wanted)
{
    char text[4096] = "";

    assert_true(c->get_config_item(c, key, text, sizeof(text)) >= 0);
    return strcmp(text, wanted) == 0;
}

static void fills(void **state)
{
    struct place *p = *state;

    json_object_set_new(p->start.environment, "COLOUR", json_string("light \"blue\" # 1"));
    json_object_set_new(p->start.environment, "TWO_LINES", json_string("a\nlxc.hook.start = x"));
    assert_ok(lxc_config_fill(p->c, &p->job, &p->start));
    assert_true(item_is(p->c, "lxc.environment", "COLOUR=light \"blue\" # 1\n"));
    assert_true(item_is(p->c, "lxc.cgroup.dir.monitor", "noded/m5"));
    assert_true(item_is(p->c, "lxc.net.0.link", "ndp5"));
    assert_true(item_is(p->c, "lxc.hook.start", ""));
    assert_true(item_is(p->c, "lxc.apparmor.profile", "unconfined"));
}

static void ipv4_only(void **state)
{
    struct place *p = *state;
    char text[256] = "";

    str_set(&p->start.gateway6, NULL);
    assert_err(lxc_config_fill(p->c, &p->job, &p->start), ERR_INVALID);
    str_set(&p->start.ipv6, NULL);
    assert_ok(lxc_config_fill(p->c, &p->job, &p->start));
    assert_true(p->c->get_config_item(p->c, "lxc.net.0.ipv6.address", text, sizeof(text)) <= 0);
    assert_true(p->c->get_config_item(p->c, "lxc.net.0.ipv6.gateway", text, sizeof(text)) <= 0);
    assert_true(item_is(p->c, "lxc.net.0.ipv4.gateway", "169.254.1.1"));
}

static void refuses(void **state)
{
    struct place *p = *state;

    str_set(&p->start.hostname, "box\nlxc.hook.start = /bin/sh");
    assert_err(lxc_config_fill(p->c, &p->job, &p->start), ERR_INVALID);
    str_set(&p->start.hostname, "box");
    str_set(&p->start.link, "an-interface-name-too-long");
    assert_err_field(lxc_config_fill(p->c, &p->job, &p->start), "link");
    str_set(&p->start.link, "ndp5");
    json_object_set_new(p->start.environment, "A B", json_string("x"));
    assert_err_field(lxc_config_fill(p->c, &p->job, &p->start), "environment.A B");
    json_object_clear(p->start.environment);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values),
        cmocka_unit_test(paths),
        cmocka_unit_test(environment_names),
        cmocka_unit_test_setup_teardown(fills, set_up, tear_down),
        cmocka_unit_test_setup_teardown(ipv4_only, set_up, tear_down),
        cmocka_unit_test_setup_teardown(refuses, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
