/* SPDX-License-Identifier: Apache-2.0 */
/* The rows' copies in the pool: what is written is read again, damage of any byte is found, nothing of another
 * container is taken for a container's own. */
#include "test.h"

#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/json_table.h"
#include "base/str.h"
#include "scratch.h"
#include "store/mirror.h"

#define POOL_ID "0123456789abcdef01234567"
#define NODE_ID "76543210fedcba9876543210"

static int set_up(void **state)
{
    char *dir = scratch_new();
    autofree char *slots = str_fmt("%s/slots/5", dir);

    assert_ok(fd_mkdirs(slots, 0700));
    *state = dir;
    return 0;
}

static int tear_down(void **state)
{
    scratch_remove(*state);
    free(*state);
    return 0;
}

static int64_t slot_of(UNUSED void *owner, const char *container_id)
{
    return str_eq(container_id, "mine") || str_eq(container_id, "other") ? 5 : 0;
}

static void write_tx(const char *pool, struct store_tx *tx, int64_t generation)
{
    autojson files = json_object();

    mirror_plan(tx, generation, slot_of, NULL, files);
    mirror_plan_node(POOL_ID, NODE_ID, generation, files);
    assert_ok(mirror_write(pool, files));
    store_tx_free(tx);
}

static struct store_tx *container(const char *id)
{
    struct store_tx *tx = store_tx_new();

    store_tx_add(tx, STORE_CONTAINER_PUT, json_pack("[s, i, s, s, s]", id, 5, "project", "name", "{\"a\": 1}"));
    store_tx_add(tx, STORE_SNAPSHOT_PUT, json_pack("[s, s, s]", id, "first", "{}"));
    store_tx_add(tx, STORE_NETWORK_PUT, json_pack("[s, s, n]", id, "{}"));
    store_tx_add(tx, STORE_PROJECT_PUT, json_pack("[s, s, s]", "project", "alias", "{}"));
    return tx;
}

static void rows_come_back(void **state)
{
    const char *pool = *state;
    struct store_tx *gone = store_tx_new();
    struct mirror_node node;
    autojson rows = NULL;
    autojson after = NULL;
    autojson of_pool = NULL;
    size_t damaged;

    write_tx(pool, container("mine"), 7);
    rows = mirror_read(pool, 5, &damaged);
    assert_int_equal(damaged, 0);
    assert_int_equal(json_array_size(rows), 3);
    assert_int_equal(json_integer_value(json_object_get(json_array_get(rows, 0), "statement")), STORE_CONTAINER_PUT);
    assert_int_equal(json_integer_value(json_object_get(json_array_get(rows, 0), "generation")), 7);
    of_pool = mirror_read(pool, 0, &damaged);
    assert_int_equal(json_array_size(of_pool), 1);
    assert_ok(mirror_read_node(pool, &node));
    assert_string_equal(node.pool_id, POOL_ID);
    assert_string_equal(node.node_id, NODE_ID);
    assert_int_equal(node.generation, 7);

    store_tx_add(gone, STORE_SNAPSHOT_DELETE, json_pack("[s, s]", "mine", "first"));
    store_tx_add(gone, STORE_NETWORK_DELETE, json_pack("[s]", "mine"));
    write_tx(pool, gone, 8);
    after = mirror_read(pool, 5, &damaged);
    assert_int_equal(json_array_size(after), 1);
}

/* A claim gives a slot to another container: what the one before it left there is not the new one's. */
static void rows_of_another_container_are_left_out(void **state)
{
    const char *pool = *state;
    struct store_tx *tx = store_tx_new();
    autojson rows = NULL;
    size_t damaged;

    write_tx(pool, container("mine"), 1);
    store_tx_add(tx, STORE_CONTAINER_PUT, json_pack("[s, i, s, s, s]", "other", 5, "project", "name", "{}"));
    write_tx(pool, tx, 2);
    rows = mirror_read(pool, 5, &damaged);
    assert_int_equal(json_array_size(rows), 1);
    assert_string_equal(json_string_value(json_object_get(json_array_get(rows, 0), "container")), "other");
}

static void every_flipped_byte_is_found(void **state)
{
    const char *pool = *state;
    autofree char *path = str_fmt("%s/slots/5/records/container.json", pool), *text = NULL;
    size_t len;

    write_tx(pool, container("mine"), 3);
    assert_ok(fd_read_file(path, 4096, &text, &len));
    for (size_t i = 0; i < len * 8; i++) {
        autojson rows = NULL;
        size_t damaged;

        text[i / 8] = (char)(text[i / 8] ^ (1 << i % 8));
        assert_ok(fd_replace_file(path, text, len, 0600));
        rows = mirror_read(pool, 5, &damaged);
        if (damaged != 1 || json_array_size(rows) != 0)
            fail_msg("bit %zu of %s went unnoticed", i, text);
        text[i / 8] = (char)(text[i / 8] ^ (1 << i % 8));
    }
    assert_ok(fd_replace_file(path, text, 0, 0600)); /* what a power cut leaves */
    {
        size_t damaged;
        autojson rows = mirror_read(pool, 5, &damaged);

        assert_int_equal(damaged, 1);
        assert_int_equal(json_array_size(rows), 0);
    }
}

static void a_slot_without_a_directory_gets_none(void **state)
{
    const char *pool = *state;
    struct store_tx *tx = store_tx_new();
    autofree char *path = str_fmt("%s/slots/6", pool), *outside = str_fmt("%s/records/project-..", pool);

    store_tx_add(tx, STORE_CONTAINER_PUT, json_pack("[s, i, s, s, s]", "gone", 6, "project", "name", "{}"));
    store_tx_add(tx, STORE_PROJECT_PUT, json_pack("[s, s, s]", "../../outside", "alias", "{}"));
    write_tx(pool, tx, 1);
    assert_int_equal(access(path, F_OK), -1);
    assert_int_equal(access(outside, F_OK), -1);
}

static void equal_rows_are_not_written_again(void **state)
{
    const char *pool = *state;
    auto_(store_tx_free) struct store_tx *tx = container("mine");
    autojson files = json_object();

    write_tx(pool, container("mine"), 1);
    store_tx_add(tx, STORE_SNAPSHOT_PUT, json_pack("[s, s, s]", "mine", "second", "{}"));
    mirror_plan(tx, 9, slot_of, NULL, files);
    mirror_drop_equal(pool, files);
    assert_int_equal(json_object_size(files), 1);
    assert_non_null(json_object_get(files, "slots/5/records/snapshot-second.json"));
}

static void a_pool_without_an_identity(void **state)
{
    struct mirror_node node;
    autofree char *path = str_fmt("%s/records", (char *)*state);

    assert_ok(mirror_read_node(*state, &node));
    assert_string_equal(node.pool_id, "");
    assert_ok(fd_mkdirs(path, 0700));
    scratch_write(path, "node.json",
                  "{\"statement\": \"node\", \"row\": [\"x\", \"y\"], \"generation\": 1, \"check\": \"0\"}");
    assert_err(mirror_read_node(*state, &node), ERR_INTERNAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(rows_come_back, set_up, tear_down),
        cmocka_unit_test_setup_teardown(rows_of_another_container_are_left_out, set_up, tear_down),
        cmocka_unit_test_setup_teardown(every_flipped_byte_is_found, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_slot_without_a_directory_gets_none, set_up, tear_down),
        cmocka_unit_test_setup_teardown(equal_rows_are_not_written_again, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_pool_without_an_identity, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
