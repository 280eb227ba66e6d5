/* SPDX-License-Identifier: Apache-2.0 */
/* Field tables, ini files, frames, errors, strings. */
#include "test.h"

#include <inttypes.h>
#include <sys/socket.h>

#include "base/fd.h"
#include "base/frame.h"
#include "base/id.h"
#include "base/ini.h"
#include "base/json_table.h"
#include "base/pace.h"
#include "base/spawn.h"
#include "base/str.h"

struct thing {
    char *name;
    int64_t size;
    bool on;
    int colour;
    json_t *list;
};
static const char *const colours[] = {"red", "green", NULL};
static const struct json_field fields[] = {
    F_STRING(struct thing, name, .required = true, .min = 3, .max = 5),
    F_INT(struct thing, size, .min = 1, .max = 10),
    F_BOOL(struct thing, on),
    F_ENUM(struct thing, colour, colours),
    F_JSON(struct thing, list, .nullable = true, .has_type = true, .type = JSON_ARRAY),
};
static JSON_TABLE(table, "thing", fields);
static JSON_TABLE(open_table, NULL, fields, .open = true);

static struct err *load(const struct json_table *t, const char *text, struct thing *out, uint64_t *present)
{
    autojson j = json_loads(text, JSON_DECODE_ANY, NULL);

    return json_table_load(t, j, out, present);
}

static void test_pace_of_what_is_had_at_once(UNUSED void **state)
{
    assert_int_equal(pace_allowed_ms(0), PACE_GRACE_S * 1000);
    assert_in_range(pace_allowed_ms(PACE_BYTES), (PACE_GRACE_S + PACE_S) * 1000, (PACE_GRACE_S + PACE_S + 30) * 1000);
}

static void test_table_loads_and_saves(UNUSED void **state)
{
    struct thing t = {.size = 7};
    uint64_t present = 0;
    json_t *saved;

    assert_ok(load(&table, "{\"name\": \"abc\", \"colour\": \"green\", \"list\": null}", &t, &present));
    assert_string_equal(t.name, "abc");
    assert_int_equal(t.size, 7);
    assert_int_equal(t.colour, 1);
    assert_int_equal(present, 1 | 8 | 16);
    saved = json_table_save(&table, &t);
    assert_string_equal(json_string_value(json_object_get(saved, "colour")), "green");
    assert_int_equal(json_integer_value(json_object_get(saved, "size")), 7);
    json_decref(saved);
    json_table_clear(&table, &t);
    assert_null(t.name);
}

static void refuses(const char *text, const char *field)
{
    struct thing t = {0};
    struct err *e = load(&table, text, &t, NULL);

    assert_non_null(e);
    assert_int_equal(e->code, ERR_INVALID);
    assert_string_equal(e->field, field);
    assert_non_null(strstr(e->message, field));
    assert_null(t.name);
    err_free(e);
}

static void test_table_names_the_bad_field(UNUSED void **state)
{
    refuses("{}", "thing.name");
    refuses("{\"name\": 5}", "thing.name");
    refuses("{\"name\": null}", "thing.name");
    refuses("{\"name\": \"ab\"}", "thing.name");
    refuses("{\"name\": \"abcdef\"}", "thing.name");
    refuses("{\"name\": \"a\\u0000b\"}", "thing.name");
    refuses("{\"name\": \"abc\", \"size\": 0}", "thing.size");
    refuses("{\"name\": \"abc\", \"size\": 11}", "thing.size");
    refuses("{\"name\": \"abc\", \"size\": 1.5}", "thing.size");
    refuses("{\"name\": \"abc\", \"size\": \"1\"}", "thing.size");
    refuses("{\"name\": \"abc\", \"on\": 1}", "thing.on");
    refuses("{\"name\": \"abc\", \"colour\": \"blue\"}", "thing.colour");
    refuses("{\"name\": \"abc\", \"list\": {}}", "thing.list");
    refuses("{\"name\": \"abc\", \"nmae\": 1}", "thing.nmae");
    refuses("[]", "thing");
}

static void test_open_table_takes_unknown_fields(UNUSED void **state)
{
    struct thing t = {0};

    assert_ok(load(&open_table, "{\"name\": \"abc\", \"other\": 1}", &t, NULL));
    json_table_clear(&open_table, &t);
}

static uint64_t hash_of(const char *text)
{
    struct thing t = {0};
    uint64_t hash;

    assert_ok(load(&table, text, &t, NULL));
    hash = json_table_hash(&table, &t);
    json_table_clear(&table, &t);
    return hash;
}

static void test_hash_changes_with_every_member(UNUSED void **state)
{
    static const char *const texts[] = {
        "{\"name\": \"abc\"}",
        "{\"name\": \"abd\"}",
        "{\"name\": \"abcd\"}",
        "{\"name\": \"abc\", \"size\": 1}",
        "{\"name\": \"abc\", \"size\": 2}",
        "{\"name\": \"abc\", \"on\": true}",
        "{\"name\": \"abc\", \"list\": []}",
        "{\"name\": \"abc\", \"list\": [\"a\", \"b\"]}",
        "{\"name\": \"abc\", \"list\": [\"b\", \"a\"]}",
        "{\"name\": \"abc\", \"list\": [{\"a\": 1}]}",
        "{\"name\": \"abc\", \"list\": [{\"a\": true}]}",
    };

    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        assert_true(hash_of(texts[i]) == hash_of(texts[i]));
        for (size_t k = 0; k < i; k++)
            assert_true(hash_of(texts[i]) != hash_of(texts[k]));
    }
}

struct settings {
    char *path;
    int64_t count, bytes;
    bool on;
    char **words;
};
#define INI(key_, kind_, initial_, ...)                                                                                \
    {                                                                                                                  \
        .section = "main", .key = #key_, .kind = (kind_), .offset = offsetof(struct settings, key_),                   \
        .initial = (initial_), .help = "Help.", __VA_ARGS__                                                            \
    }
static const struct ini_row rows[] = {INI(path, INI_STRING, "/x"), INI(count, INI_INT, "3", .min = 1, .max = 9),
                                      INI(bytes, INI_SIZE, "2K"), INI(on, INI_BOOL, "no"),
                                      INI(words, INI_LIST, "a, b")};

static void test_ini(UNUSED void **state)
{
    struct settings s = {0};
    autofree char *example = ini_example(rows, ARRAY_LEN(rows));

    assert_ok(ini_load(rows, ARRAY_LEN(rows), "t", "# c\n[main]\ncount = 5\n on=yes\nwords = x y\n", &s));
    assert_string_equal(s.path, "/x");
    assert_int_equal(s.count, 5);
    assert_int_equal(s.bytes, 2048);
    assert_true(s.on);
    assert_string_equal(s.words[1], "y");
    assert_null(s.words[2]);
    ini_clear(rows, ARRAY_LEN(rows), &s);
    assert_non_null(strstr(example, "#words = a, b"));
}

static void test_ini_names_the_line(UNUSED void **state)
{
    static const struct {
        const char *text, *where;
    } cases[] = {{"[other]\n", "t:1"},
                 {"[main]\n\nsize = 1\n", "t:3"},
                 {"[main]\ncount = ten\n", "t:2"},
                 {"[main]\ncount = 10\n", "t:2"},
                 {"[main]\non = maybe\n", "t:2"},
                 {"count = 1\n", "t:1"},
                 {"[main]\non = 1\non = 0\n", "t:3"},
                 {"[main\n", "t:1"},
                 {"[main]\nbytes = -1\n", "t:2"}};

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct settings s = {0};
        struct err *e = ini_load(rows, ARRAY_LEN(rows), "t", cases[i].text, &s);

        assert_non_null(e);
        assert_non_null(strstr(e->message, cases[i].where));
        err_free(e);
        ini_clear(rows, ARRAY_LEN(rows), &s);
    }
}

static void test_frames(UNUSED void **state)
{
    struct frame_reader r = {0};
    autojson sent = json_pack("{s:s}", "a", "b");
    json_t *got = NULL;
    char buf[64];
    int pair[2];
    ssize_t n;

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    assert_ok(frame_send(pair[0], sent));
    assert_ok(frame_receive(pair[1], &got));
    assert_true(json_equal(sent, got));
    json_decref(got);
    assert_ok(frame_send(pair[0], sent));
    n = read(pair[1], buf, sizeof(buf));
    for (ssize_t i = 0; i < n; i++) {
        assert_ok(frame_reader_feed(&r, buf + i, 1));
        assert_ok(frame_reader_next(&r, &got));
        assert_true((got != NULL) == (i == n - 1));
    }
    json_decref(got);
    assert_ok(frame_reader_feed(&r, "\xff\xff\xff\xff", 4));
    assert_err(frame_reader_next(&r, &got), ERR_TOO_LARGE);
    frame_reader_done(&r);
    close(pair[0]);
    assert_err(frame_receive(pair[1], &got), ERR_CANCELLED);
    close(pair[1]);
}

static void test_errors_cross_processes(UNUSED void **state)
{
    struct err *e = err_data(err_reason(err_wrap(err_field("f", "is %d", 5), "outer"), "WORD"), json_integer(3)), *back;
    autojson j = NULL;

    e->retry_after_s = 4;
    j = err_to_json(e);
    back = err_from_json(j);
    assert_int_equal(back->code, ERR_INVALID);
    assert_string_equal(back->message, "outer: f: is 5");
    assert_string_equal(back->field, "f");
    assert_string_equal(back->reason, "WORD");
    assert_int_equal(json_integer_value(back->data), 3);
    assert_int_equal(back->retry_after_s, 4);
    err_free(e);
    err_free(back);
}

static void test_errors_name_what_is_no_utf_8(UNUSED void **state)
{
    struct err *e = err_new(ERR_HOST, "'\xc3\xa4/\xff\xfe, \xc3': no"), *back;
    autojson j = err_to_json(e);
    autojson cut = json_text("a\xe2\x82\xac", 3);
    autojson none = json_text(NULL, 3);

    back = err_from_json(j);
    assert_int_equal(back->code, ERR_HOST);
    assert_string_equal(back->message, "'\xc3\xa4/?\?, ?': no");
    assert_string_equal(json_string_value(cut), "a??");
    assert_true(json_is_null(none));
    err_free(e);
    err_free(back);
}

static void test_hex_digits(UNUSED void **state)
{
    autofree char *text = str_of_hex("2f61FF0a"), *none = str_of_hex("");
    char digits[9];

    str_hex(text, 4, digits);
    assert_string_equal(digits, "2f61ff0a");
    assert_string_equal(none, "");
    for (size_t i = 0; i < 5; i++)
        assert_null(str_of_hex(((const char *const[]){"6", "6100", "6g", " 61", "61 "})[i]));
}

static void test_host_labels(UNUSED void **state)
{
    static const char *const pairs[][2] = {
        {"My_Box-1", "my-box-1"}, {"--a\nb.c--", "abc"}, {"", "container"}, {"\xc3\xa4", "container"}};
    char longest[101] = "";

    for (size_t i = 0; i < ARRAY_LEN(pairs); i++) {
        autofree char *label = str_host_label(pairs[i][0]);

        assert_string_equal(label, pairs[i][1]);
    }
    memset(longest, 'x', sizeof(longest) - 1);
    {
        autofree char *label = str_host_label(longest);

        assert_int_equal(strlen(label), 63);
    }
}

static void test_strings(UNUSED void **state)
{
    char text[STR_TIME_SIZE];
    int64_t n;

    assert_string_equal(str_time(1736937000123, text), "2025-01-15T10:30:00.123Z");
    assert_true(str_to_i64("-5", &n) && n == -5);
    assert_false(str_to_i64("5x", &n));
    assert_false(str_to_i64("", &n));
    assert_false(str_to_i64(" 5", &n));
    assert_false(str_to_i64("99999999999999999999", &n));
    assert_true(str_is_object_id("0123456789abcdef01234567"));
    assert_false(str_is_object_id("0123456789ABCDEF01234567"));
    assert_false(str_is_object_id("0123"));
    assert_true(str_has_control("a\nb"));
}

static void test_times(UNUSED void **state)
{
    static const struct {
        const char *text;
        int64_t ms; /* -1: refused */
    } cases[] = {
        {"1970-01-01", 0},
        {"2025-01-15T10:30:00.123Z", 1736937000123},
        {"2025-01-15T10:30:00.1234567Z", 1736937000123},
        {"2025-01-15T10:30:00", 1736937000000},
        {"2025-01-15T10:30", 1736937000000},
        {"2025-01-15T11:30:00+01:00", 1736937000000},
        {"2025-01-15T09:00:00-01:30", 1736937000000},
        {"2024-02-29", 1709164800000},
        {"2025-02-29", -1},
        {"2025-13-01", -1},
        {"2025-00-01", -1},
        {"2025-1-1", -1},
        {"1969-12-31", -1},
        {"2025-01-15T", -1},
        {"2025-01-15T24:00", -1},
        {"2025-01-15T10:30Zx", -1},
        {"2025-01-15T10:30+1", -1},
        {"2025-01-15 10:30", -1},
        {"", -1},
        {"now", -1},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        int64_t ms = -1;

        if (str_to_time(cases[i].text, &ms) != (cases[i].ms >= 0) || (cases[i].ms >= 0 && ms != cases[i].ms))
            fail_msg("'%s' became %" PRId64, cases[i].text, ms);
    }
}

static void test_spawn(UNUSED void **state)
{
    const char *const yes[] = {"true", NULL}, *const no[] = {"false", NULL};
    struct spawn s = SPAWN_INIT;

    s.path = "/bin/true";
    s.argv = yes;
    assert_ok(spawn_run(&s, "true"));
    s.path = "/bin/false";
    s.argv = no;
    assert_err(spawn_run(&s, "false"), ERR_HOST);
    s.path = "/no/such/program";
    assert_err(spawn_run(&s, "none"), ERR_HOST);
}

static void test_strings_of_an_array(UNUSED void **state)
{
    autojson list = json_pack("[s, i, s]", "one", 2, "three");

    assert_true(json_has_string(list, "three"));
    assert_false(json_has_string(list, "2"));
    assert_false(json_has_string(list, "thre"));
    assert_false(json_has_string(NULL, "one"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pace_of_what_is_had_at_once),
        cmocka_unit_test(test_table_loads_and_saves),
        cmocka_unit_test(test_table_names_the_bad_field),
        cmocka_unit_test(test_open_table_takes_unknown_fields),
        cmocka_unit_test(test_ini),
        cmocka_unit_test(test_ini_names_the_line),
        cmocka_unit_test(test_hash_changes_with_every_member),
        cmocka_unit_test(test_frames),
        cmocka_unit_test(test_errors_cross_processes),
        cmocka_unit_test(test_errors_name_what_is_no_utf_8),
        cmocka_unit_test(test_hex_digits),
        cmocka_unit_test(test_strings),
        cmocka_unit_test(test_host_labels),
        cmocka_unit_test(test_times),
        cmocka_unit_test(test_spawn),
        cmocka_unit_test(test_strings_of_an_array),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
