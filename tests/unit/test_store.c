/* SPDX-License-Identifier: Apache-2.0 */
/* The database: schema, transactions that are all or nothing, every statement prepares. */
#include "test.h"

#include <unistd.h>

#include "base/json_table.h"
#include "base/str.h"
#include "scratch.h"
#include "store/store.h"

static int open_store(void **state)
{
    autofree char *dir = scratch_new();
    autofree char *path = str_fmt("%s/db", dir);
    struct store *s = NULL;

    assert_ok(store_open(path, &s));
    store_close(s);
    assert_ok(store_open(path, &s)); /* an existing one is left as it is */
    scratch_remove(dir);
    *state = s;
    return 0;
}

static int close_store(void **state)
{
    store_close(*state);
    return 0;
}

static struct store_tx *container(const char *id, int slot, const char *name)
{
    struct store_tx *tx = store_tx_new();

    store_tx_add(tx, STORE_CONTAINER_PUT, json_pack("[s, i, s, s, s]", id, slot, "p", name, "{}"));
    return tx;
}

static size_t count(struct store *s, enum store_statement statement)
{
    autojson rows = NULL;

    assert_ok(store_query(s, statement, NULL, &rows));
    return json_array_size(rows);
}

static void test_put_is_insert_or_update(void **state)
{
    struct store *s = *state;

    for (int i = 0; i < 2; i++) {
        auto_(store_tx_free) struct store_tx *tx = container("a", 1, i ? "two" : "one");

        assert_ok(store_commit(s, tx));
    }
    assert_int_equal(count(s, STORE_CONTAINER_ALL), 1);
}

static void test_a_failed_statement_undoes_all(void **state)
{
    struct store *s = *state;
    auto_(store_tx_free) struct store_tx *first = container("a", 1, "one"), *tx = container("b", 2, "two");

    assert_ok(store_commit(s, first));
    store_tx_add(tx, STORE_CONTAINER_PUT,
                 json_pack("[s, i, s, s, s]", "c", 1, "p", "three", "{}")); /* slot 1 is taken */
    assert_err(store_commit(s, tx), ERR_INTERNAL);
    assert_int_equal(count(s, STORE_CONTAINER_ALL), 1);
}

static void test_names_are_unique_in_a_project(void **state)
{
    struct store *s = *state;
    auto_(store_tx_free) struct store_tx *first = container("a", 1, "one"), *again = container("b", 2, "one");

    assert_ok(store_commit(s, first));
    assert_err(store_commit(s, again), ERR_INTERNAL);
}

static void test_rows_go_with_their_container(void **state)
{
    struct store *s = *state;
    auto_(store_tx_free) struct store_tx *tx = container("a", 1, "one"), *drop = store_tx_new();

    store_tx_add(tx, STORE_SNAPSHOT_PUT, json_pack("[s, s, s]", "a", "snap", "{}"));
    store_tx_add(tx, STORE_FIREWALL_PUT, json_pack("[s, s]", "a", "{}"));
    store_tx_add(tx, STORE_LOG_ADD, json_pack("[s, s, n, s, i, n, s, n, i]", "l", "a", "running", 5, "user", 5));
    assert_ok(store_commit(s, tx));
    assert_int_equal(count(s, STORE_SNAPSHOT_ALL), 1);
    store_tx_add(drop, STORE_CONTAINER_DELETE, json_pack("[s]", "a"));
    assert_ok(store_commit(s, drop));
    assert_int_equal(count(s, STORE_SNAPSHOT_ALL) + count(s, STORE_FIREWALL_ALL), 0);
}

static void test_wrong_number_of_values(void **state)
{
    auto_(store_tx_free) struct store_tx *tx = store_tx_new();

    store_tx_add(tx, STORE_CONTAINER_DELETE, json_pack("[s, s]", "a", "b"));
    assert_err(store_commit(*state, tx), ERR_INTERNAL);
}

#define EVENTS(name)                                                                                                   \
    [STORE_EVENT_##name##_TIME_DESC] = 10, [STORE_EVENT_##name##_TIME_ASC] = 10,                                       \
    [STORE_EVENT_##name##_TYPE_DESC] = 10, [STORE_EVENT_##name##_TYPE_ASC] = 10, [STORE_EVENT_##name##_COUNT] = 8,     \
    [STORE_EVENT_##name##_DELETE] = 10

#define COMMANDS                                                                                                       \
    [STORE_COMMAND_ADD] = 5, [STORE_COMMAND_END] = 5, [STORE_COMMAND_GET] = 1, [STORE_COMMAND_SINCE] = 1,              \
    [STORE_COMMAND_TRIM] = 0

static void test_every_statement_prepares(void **state)
{
    static const int parameters[] = {
        [STORE_META_PUT] = 2,
        [STORE_CONTAINER_PUT] = 5,
        [STORE_CONTAINER_DELETE] = 1,
        [STORE_SNAPSHOT_PUT] = 3,
        [STORE_SNAPSHOT_DELETE] = 2,
        [STORE_FIREWALL_PUT] = 2,
        [STORE_INTENT_PUT] = 6,
        [STORE_INTENT_DELETE] = 1,
        [STORE_LOG_ADD] = 9,
        [STORE_LOG_COUNT] = 1,
        [STORE_LOG_TIME_ASC] = 3,
        [STORE_LOG_TIME_DESC] = 3,
        [STORE_LOG_CREATED_ASC] = 3,
        [STORE_LOG_CREATED_DESC] = 3,
        [STORE_LOG_TO_ASC] = 3,
        [STORE_LOG_TO_DESC] = 3,
        [STORE_LOG_FROM_ASC] = 3,
        [STORE_LOG_FROM_DESC] = 3,
        [STORE_NETWORK_PUT] = 3,
        [STORE_NETWORK_DELETE] = 1,
        [STORE_EVENT_ADD] = 10,
        [STORE_EVENT_LAST] = 0,
        EVENTS(ALL),
        EVENTS(TYPE),
        EVENTS(PROJECT),
        EVENTS(RESOURCE),
        EVENTS(CONTAINER),
        [STORE_EVENT_AFTER] = 2,
        [STORE_EVENT_COUNT_AFTER] = 1,
        [STORE_EVENT_GET] = 1,
        [STORE_EVENT_OPERATION] = 2,
        [STORE_EVENT_DELETE] = 1,
        [STORE_EVENT_STATS] = 8,
        [STORE_EVENT_OLDEST] = 1,
        [STORE_EVENT_TRIM] = 1,
        [STORE_LOG_TRIM] = 2,
        COMMANDS,
        [STORE_SHARE_PUT] = 3,
        [STORE_SHARE_DELETE] = 1,
        [STORE_PROJECT_PUT] = 3,
        [STORE_PROJECT_DELETE] = 1,
        [STORE_IMAGE_PUT] = 2,
        [STORE_IMAGE_DELETE] = 1,
    };

    _Static_assert(ARRAY_LEN(parameters) == STORE_STATEMENT_MAX, "a statement is missing here");
    for (int i = 0; i < STORE_STATEMENT_MAX; i++) {
        autojson rows = NULL;
        json_t *values = json_array();
        struct err *e;

        for (int k = 0; k < parameters[i]; k++)
            json_array_append_new(values, json_integer(k));
        e = store_query(*state, (enum store_statement)i, values, &rows);
        /* a reference to no container is refused, a statement with a mistake in it would be too, in other words */
        if (e && !strstr(e->message, "constraint failed"))
            fail_msg("statement %d: %s", i, e->message);
        err_free(e);
    }
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, open_store, close_store)
    const struct CMUnitTest tests[] = {
        T(test_put_is_insert_or_update),       T(test_a_failed_statement_undoes_all),
        T(test_names_are_unique_in_a_project), T(test_rows_go_with_their_container),
        T(test_wrong_number_of_values),        T(test_every_statement_prepares),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
