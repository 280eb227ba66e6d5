/* SPDX-License-Identifier: Apache-2.0 */
/* Pure parts of the daemon: routing, configuration, input rules, the kinds of operation. */
#include "test.h"

#include <unistd.h>

#include "agent/api/api.h"
#include "agent/api/body.h"
#include "agent/api/route.h"
#include "agent/commands/command.h"
#include "agent/containers/guest.h"
#include "agent/containers/project.h"
#include "agent/containers/snapshots.h"
#include "agent/events/cursor.h"
#include "agent/events/filter.h"
#include "agent/http/http_error.h"
#include "base/fd.h"
#include "base/str.h"

static void handler(struct api_call *call)
{
    (void)call;
}

static const struct route routes[] = {
    {GET, "/a", 1, handler},
    {GET | PUT, "/a/{id}", 1, handler},
    {POST, "/a/{id}/named", 1, handler},
    {POST, "/a/{id}/{word}", 1, handler, .choices = {"start", "stop"}},
    {POST, "/a/{id}/{word}", 1, handler, .fallback = true},
};

/* Index of the row, -404 or -405. */
static int route(int verb, const char *path)
{
    char *params[3] = {0};
    const struct route *found = NULL;
    struct err *e = route_find(routes, ARRAY_LEN(routes), verb, path, params, &found);
    int result = e ? -err_code_status(e->code) : (int)(found - routes);

    for (size_t i = 0; i < ARRAY_LEN(params); i++)
        free(params[i]);
    err_free(e);
    return result;
}

static void test_bodies(UNUSED void **state)
{
    static const char *const good[] = {"{}", " {\"a\": [1, {\"b\": null}]} ", "{\"a\": \"\\\",,,,[[\"}"};
    static const char *const bad[] = {"", "[]", "5", "{", "{\"a\": 1, \"a\": 2}"};
    autofree char *many = mem_new_array(char, API_BODY_VALUES * 2 + 16);
    json_t *body = NULL;
    size_t len;

    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        assert_null(api_body_parse(good[i], strlen(good[i]), &body));
        assert_true(json_is_object(body));
        json_decref(body);
    }
    assert_null(api_body_parse("null", 4, &body));
    assert_null(body);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        autoerr e = api_body_parse(bad[i], strlen(bad[i]), &body);

        assert_non_null(e);
        assert_string_equal(e->field, "body");
        assert_null(body);
    }
    /* The object, its list and the list's elements are the values. */
    for (int more = 0; more <= 1; more++) {
        autoerr e = NULL;

        len = (size_t)snprintf(many, 16, "{\"a\":[1");
        for (int i = 3; i < API_BODY_VALUES + more; i++, len += 2)
            memcpy(many + len, ",1", 2);
        memcpy(many + len, "]}", 2);
        e = api_body_parse(many, len + 2, &body);
        assert_int_equal(e != NULL, more);
        json_decref(steal(&body));
    }
}

static void test_refusals(UNUSED void **state)
{
    size_t len = 0;
    autofree char *text = http_error_reply(503, "no \"room\"", 2, &len);

    assert_int_equal(len, strlen(text));
    assert_non_null(strstr(text, "HTTP/1.1 503 Service Unavailable\r\n"));
    assert_non_null(strstr(text, "\r\nRetry-After: 2\r\n"));
    assert_non_null(strstr(text, "\r\n\r\n{\"statusCode\":503,\"error\":\"Service Unavailable\",\"message\":\"no "
                                 "\\\"room\\\"\",\"data\":null}"));
    assert_string_equal(http_status_word(299), "Error");
}

static void test_routes(UNUSED void **state)
{
    assert_int_equal(route(GET, "/a"), 0);
    assert_int_equal(route(GET, "/a/"), 0);
    assert_int_equal(route(GET, "/a/x"), 1);
    assert_int_equal(route(PUT, "/a/x/"), 1);
    assert_int_equal(route(POST, "/a/x/named"), 2);
    assert_int_equal(route(POST, "/a/x/stop"), 3);
    assert_int_equal(route(POST, "/a/x/other"), 4);
    assert_int_equal(route(GET, "/a/x/other"), -404);
    assert_int_equal(route(GET, "/a/x/stop"), -405);
    assert_int_equal(route(DELETE, "/a"), -405);
    assert_int_equal(route(GET, "/"), -404);
    assert_int_equal(route(GET, ""), -404);
    assert_int_equal(route(GET, "/b"), -404);
    assert_int_equal(route(GET, "/a//"), -404);
    assert_int_equal(route(GET, "//a"), -404);
    assert_int_equal(route(GET, "/ab"), -404);
    assert_int_equal(route(POST, "/a/x/stop/more"), -404);
}

static void test_names(UNUSED void **state)
{
    assert_true(api_is_container_name("abc"));
    assert_true(api_is_container_name("A-b_9"));
    assert_false(api_is_container_name("ab"));
    assert_false(api_is_container_name("a.b"));
    assert_false(api_is_container_name("a/b"));
    assert_false(api_is_container_name(""));
    assert_ok(api_check_env_key("PATH_1"));
    assert_err(api_check_env_key("1A"), ERR_INVALID);
    assert_err(api_check_env_key("A=B"), ERR_INVALID);
    assert_err(api_check_env_key("HOODY_ID"), ERR_INVALID);
}

static struct err *config_of(const char *text)
{
    char path[] = "/tmp/noded-test-XXXXXX";
    auto_(config_free) struct config *c = NULL;
    int fd = mkstemp(path);
    struct err *e;

    assert_true(fd >= 0);
    assert_ok(fd_write_all(fd, text, strlen(text)));
    close(fd);
    e = config_load(path, &c);
    unlink(path);
    return e;
}

#define PEER "0123456789abcdef01234567"

static void test_peers_of_the_configuration(UNUSED void **state)
{
    static const char *const bad[] = {"x",         PEER,          PEER "=host",       PEER "=:1",  PEER "=host:0",
                                      PEER "=h:x", "12=host:443", PEER "=host:65536", "=host:8443"};
    struct config_peer p = {0};

    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        autofree char *text = str_fmt("[peers]\nnodes = %s\n", bad[i]);

        assert_err_field(config_of(text), "peers.nodes");
    }
    assert_ok(config_of("[peers]\nnodes = " PEER "=host:8443, " PEER "=[::1]:1\n"));
    assert_ok(config_peer(PEER "=[fd00::7]:8443", &p));
    assert_string_equal(p.host, "fd00::7");
    assert_true(p.port == 8443 && str_eq(p.id, PEER));
    free(p.host);
}

static void test_pools_of_the_configuration(UNUSED void **state)
{
    static const char *const bad[] = {"debian/13=2",
                                      "dev_kit:=2",
                                      "dev_kit:debian/13",
                                      "dev_kit:debian/13=0",
                                      "bare:debian/13=3-2",
                                      "bare:debian/13=1001",
                                      "bare:debian/13=2-x",
                                      "kit:debian/13=1",
                                      "bare:/../x=1",
                                      "bare:debian/13=-1",
                                      "bare:debian/13=1 bare:debian-13=2"};
    struct config_warm w = {0};

    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        autofree char *text = str_fmt("[warm]\npools = %s\n", bad[i]);

        assert_err_field(config_of(text), "warm.pools");
    }
    assert_ok(config_of("[warm]\npools = bare:debian/13=1, dev_kit:debian/13=2-6, hoody_kit:debian/12=1\n"));
    assert_ok(config_warm("dev_kit:debian-13=2-6", &w));
    assert_string_equal(w.image, "debian/13");
    assert_true(w.hoody_kit && w.dev_kit && w.low == 2 && w.high == 6);
    free(w.image);
}

static void test_configuration(UNUSED void **state)
{
    autofree char *example = config_example();

    assert_ok(config_of(""));
    assert_ok(config_of(example));
    assert_err_field(config_of("[node]\nstate_dir = relative\n"), "node.state_dir");
    assert_err_field(config_of("[node]\ncgroup = ../up\n"), "node.cgroup");
    assert_err_field(config_of("[node]\nid = 12\n"), "node.id");
    assert_err_field(config_of("[api]\nunknown_projects = maybe\n"), "api.unknown_projects");
    assert_err_field(config_of("[network]\nveth_prefix = Toolongone\n"), "network.veth_prefix");
    assert_err_field(config_of("[network]\nfirewall_ipv6 = maybe\n"), "network.firewall_ipv6");
    assert_err(config_of("[node]\nno_such = 1\n"), ERR_INVALID);
    assert_err(config_of("[containers]\nstop_timeout = 0\n"), ERR_INVALID);
}

static void test_every_kind_of_operation(UNUSED void **state)
{
    static const struct op_kind *const kinds[] = {
        &op_create, &op_copy,     &op_start,           &op_stop,    &op_force_stop, &op_restart, &op_pause, &op_resume,
        &op_delete, &op_snapshot, &op_snapshot_delete, &op_restore, &op_settle,     &op_claim};

    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        const struct op_kind *k = kinds[i];

        assert_ptr_equal(op_kind_find(k->name), k);
        assert_non_null(k->succeed);
        assert_non_null(k->fail);
        assert_in_range(k->step_count, 1, OP_STEPS_MAX);
        for (size_t s = 0; s < k->step_count; s++) {
            assert_non_null(k->steps[s].run);
            assert_true(s == 0 || k->steps[s].stage >= k->steps[s - 1].stage);
        }
    }
    assert_null(op_kind_find("nonsense"));
}

static void test_container_record_round_trip(UNUSED void **state)
{
    auto_(container_free) struct container *c = container_new(), *d = container_new();
    json_t *saved;

    c->record.id = str_dup("0123456789abcdef01234567");
    c->record.project_id = str_dup("p");
    c->record.name = str_dup("n");
    c->record.hostname = str_dup("h");
    c->record.machine_id = str_dup("m");
    c->record.slot = 3;
    c->record.status = CONTAINER_PAUSED;
    c->record.environment = json_pack("{s:s}", "A", "1");
    c->record.realm_ids = json_array();
    c->record.kits = json_array();
    saved = json_table_save(&container_record_table, &c->record);
    assert_ok(json_table_load(&container_record_table, saved, &d->record, NULL));
    json_decref(saved);
    saved = json_table_save(&container_record_table, &d->record);
    assert_string_equal(json_string_value(json_object_get(saved, "status")), "paused");
    assert_int_equal(json_integer_value(json_object_get(saved, "slot")), 3);
    json_decref(saved);
}

/* As another node, or an archive, says that there are. */
static void test_snapshots_of_others(UNUSED void **state)
{
    static const char *const bad[] = {
        "[{}]",
        "[5]",
        "[{\"name\": \"a\"}, {\"name\": \"b\"}, {\"name\": \"a\"}]",
        "[{\"name\": \"a\", \"alias\": \"line\\nbreak\"}]",
        "[{\"name\": \"a\", \"created_at\": 253402300800000}]",
        "[{\"name\": \"a\", \"expires_at\": -1}]",
        "[{\"name\": \"a\", \"last_used_at\": 9223372036854775807}]",
        "[{\"name\": \"a\", \"more\": 1}]",
    };
    autojson good = json_loads("[{\"name\": \"a\", \"alias\": \"\\u00e4 b\", \"created_at\": 1, \"size\": -1}, "
                               "{\"name\": \"b\", \"created_at\": 2}]",
                               0, NULL);
    autojson came = json_pack("[s]", "b");
    auto_(store_tx_free) struct store_tx *tx = store_tx_new();
    auto_(container_free) struct container *c = container_new();
    autojson names = snapshots_names(good);

    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        autojson list = json_loads(bad[i], 0, NULL);

        assert_err_field(snapshots_check("snapshots", list), "snapshots");
    }
    assert_ok(snapshots_check("snapshots", good));
    assert_int_equal(json_array_size(names), 2);
    c->record.id = str_dup("c");
    snapshots_adopt(c, tx, good, came);
    assert_int_equal(c->snapshot_count, 1);
    assert_string_equal(c->snapshots[0]->name, "b");
    snapshots_adopt(c, tx, NULL, NULL);
    assert_int_equal(c->snapshot_count, 1);
}

static void test_cursors(UNUSED void **state)
{
    static const int64_t numbers[] = {0, 1, 63, 64, 255, 256, 1234567890123, INT64_MAX};
    struct cursor c = {.history = "0123456789abcdef0123456789abcdef"}, back;
    char text[CURSOR_SIZE], broken[CURSOR_SIZE];

    for (size_t i = 0; i < ARRAY_LEN(numbers); i++) {
        c.seq = numbers[i];
        cursor_encode(&c, text);
        assert_int_equal(strlen(text), 46);
        assert_int_equal(strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"), 46);
        assert_true(cursor_decode(text, &back));
        assert_string_equal(back.history, c.history);
        assert_int_equal(back.seq, numbers[i]);
        for (size_t k = 0; k < 46; k++) { /* any one character that differs is found */
            memcpy(broken, text, sizeof(text));
            broken[k] = broken[k] == 'x' ? 'y' : 'x';
            assert_false(cursor_decode(broken, &back));
        }
        text[45] = '\0';
        assert_false(cursor_decode(text, &back));
    }
    assert_false(cursor_decode("", &back));
}

/* Revisions: what is pending, lost, exhausted. */
static void test_guest_parts(UNUSED void **state)
{
    auto_(container_free) struct container *c = container_new();
    int64_t revisions[GUEST_PARTS];

    c->record.environment = json_object();
    assert_false(guest_is_pending(c, GUEST_ENVIRONMENT));
    guest_files_lost(c); /* never set: nothing to lose */
    assert_false(guest_is_pending(c, GUEST_ENVIRONMENT));
    assert_null(guest_start_files(c, revisions));
    guest_changed(c, GUEST_ENVIRONMENT);
    guest_changed(c, GUEST_SSH_KEY);
    assert_true(guest_is_pending(c, GUEST_ENVIRONMENT) && guest_is_pending(c, GUEST_SSH_KEY));
    assert_false(guest_is_pending(c, GUEST_RAMDISK));
    {
        autojson files = guest_start_files(c, revisions);

        assert_true(json_is_object(json_object_get(files, "environment")));
        assert_true(json_is_null(json_object_get(files, "ssh_public_key")));
        assert_int_equal(revisions[GUEST_ENVIRONMENT], 1);
    }
    c->record.env_attempts = GUEST_ATTEMPTS_MAX;
    assert_true(guest_is_exhausted(c));
    guest_changed(c, GUEST_ENVIRONMENT);
    assert_false(guest_is_exhausted(c));
    c->record.env_applied_revision = c->record.env_revision;
    c->record.ssh_applied_revision = c->record.ssh_revision;
    assert_null(guest_start_files(c, revisions));
    guest_files_lost(c);
    assert_true(guest_is_pending(c, GUEST_ENVIRONMENT) && guest_is_pending(c, GUEST_SSH_KEY));
}

static void test_projects(UNUSED void **state)
{
    struct config config = {.record_projects = true};
    struct agent a = {.config = &config, .node_id = "0123456789abcdef01234567"};
    struct project *p = project_new(&a, "aaaaaaaaaaaaaaaaaaaabcde", NULL), *q;
    json_t *saved;

    assert_string_equal(p->alias, p->id);
    assert_string_equal(p->color, "#AABCDE");
    assert_string_equal(p->user_id, a.node_id);
    project_add(&a, p);
    q = project_new(&a, p->id, NULL);
    assert_string_equal(q->alias, "aaaaaaaaaaaaaaaaaaaabcde-2");
    project_free(q);
    assert_ok(project_check_enter(&a, "project_id", "ffffffffffffffffffffffff"));
    config.record_projects = false;
    assert_err(project_check_enter(&a, "project_id", "ffffffffffffffffffffffff"), ERR_NOT_FOUND);
    assert_ok(project_check_enter(&a, "project_id", p->id));
    p->max_containers = 0;
    assert_err(project_check_enter(&a, "project_id", p->id), ERR_LIMIT);
    p->deleting = true;
    assert_err(project_check_enter(&a, "project_id", p->id), ERR_CONFLICT);
    saved = json_table_save(&project_table, p);
    q = mem_new(struct project);
    assert_ok(json_table_load(&project_table, saved, q, NULL));
    assert_true(q->deleting);
    assert_int_equal(q->max_containers, 0);
    json_decref(saved);
    project_free(q);
    project_remove(&a, p);
    free(a.projects);
}

static void test_event_filters(UNUSED void **state)
{
    const struct {
        struct event_filter f;
        bool matches;
    } cases[] = {
        {{0}, true},
        {{.event_type = (char *)(uintptr_t) "container.running"}, true},
        {{.event_type = (char *)(uintptr_t) "container.run"}, false},
        {{.resource_type = (char *)(uintptr_t) "container", .resource_id = (char *)(uintptr_t) "r"}, true},
        {{.resource_type = (char *)(uintptr_t) "firewall", .resource_id = (char *)(uintptr_t) "r"}, false},
        {{.project_id = (char *)(uintptr_t) "p", .realm_id = (char *)(uintptr_t) "realm2"}, true},
        {{.project_id = (char *)(uintptr_t) "p", .realm_id = (char *)(uintptr_t) "realm3"}, false},
        {{.container_id = (char *)(uintptr_t) "c"}, false}, /* the event is about none */
    };
    autojson row =
        json_pack("{s:s, s:s, s:s, s:s, s:n, s:s}", "event_type", "container.running", "resource_type", "container",
                  "resource_id", "r", "project_id", "p", "container_id", "realm_ids", "[\"realm1\",\"realm2\"]");

    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        if (event_filter_matches(&cases[i].f, row) != cases[i].matches)
            fail_msg("case %zu", i);
    assert_int_equal(event_filter_statement(&cases[0].f, EVENT_COUNT), STORE_EVENT_ALL_COUNT);
    assert_int_equal(event_filter_statement(&cases[1].f, EVENT_TYPE_ASC), STORE_EVENT_TYPE_TYPE_ASC);
    assert_int_equal(event_filter_statement(&cases[3].f, EVENT_DELETE), STORE_EVENT_RESOURCE_DELETE);
    assert_int_equal(event_filter_statement(&cases[5].f, EVENT_TIME_ASC), STORE_EVENT_PROJECT_TIME_ASC);
    assert_int_equal(event_filter_statement(&cases[7].f, EVENT_TIME_DESC), STORE_EVENT_CONTAINER_TIME_DESC);
}

static void test_commands_have_ids_of_their_own(UNUSED void **state)
{
    for (size_t i = 0; i < command_count; i++) {
        char id[ID_OBJECT_LEN + 1];

        command_id(&commands[i], id);
        assert_true(str_is_object_id(id));
        assert_ptr_equal(command_find(id, NULL), &commands[i]);
        assert_ptr_equal(command_find(NULL, commands[i].slug), &commands[i]);
        assert_true(commands[i].per_hour <= COMMAND_RATE_MAX && commands[i].per_day <= COMMAND_RATE_MAX);
        assert_true(commands[i].timeout_s >= 1 && commands[i].timeout_s <= 7200 && commands[i].run);
    }
    assert_null(command_find(NULL, "rm"));
    assert_null(command_find("0123456789abcdef01234567", NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bodies),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_routes),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_configuration),
        cmocka_unit_test(test_peers_of_the_configuration),
        cmocka_unit_test(test_pools_of_the_configuration),
        cmocka_unit_test(test_every_kind_of_operation),
        cmocka_unit_test(test_container_record_round_trip),
        cmocka_unit_test(test_snapshots_of_others),
        cmocka_unit_test(test_cursors),
        cmocka_unit_test(test_event_filters),
        cmocka_unit_test(test_commands_have_ids_of_their_own),
        cmocka_unit_test(test_projects),
        cmocka_unit_test(test_guest_parts),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
