/* SPDX-License-Identifier: Apache-2.0 */
#include "storage/layout.h"

#include "base/str.h"
#include "test.h"

static void paths(UNUSED void **state)
{
    const struct {
        char *path;
        const char *wanted;
    } cases[] = {
        {layout_image("/pool", "debian/13"), "/pool/images/debian-13"},
        {layout_image("/a/b", "x"), "/a/b/images/x"},
        {layout_kit("/pool", "web", "1.2"), "/pool/kits/web-1.2"},
        {layout_rootfs("/pool", 16383), "/pool/slots/16383/rootfs"},
        {layout_snapshot("/pool", 1, "first"), "/pool/slots/1/snapshots/first"},
        {layout_snapshots("/pool", 1), "/pool/slots/1/snapshots"},
        {layout_trash("/pool"), "/pool/trash"},
        {layout_temporary("/pool/slots/7", "root"), "/pool/slots/7/.new-root"},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        assert_string_equal(cases[i].path, cases[i].wanted);
        free(cases[i].path);
    }
}

static void names(UNUSED void **state)
{
    static const char *const good[] = {"a", "2026-01-15T10.30", "before_upgrade", "v1.2+b~3", "-x"};
    static const char *const bad[] = {"", ".", "..", ".new-x", "a/b", "a b", "a\n", "\xc3\xa4", "a*", NULL};
    char longest[LAYOUT_NAME_MAX + 2];

    for (size_t i = 0; i < ARRAY_LEN(good); i++)
        assert_true(layout_name_ok(good[i]));
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_false(layout_name_ok(bad[i]));
    memset(longest, 'a', sizeof(longest));
    longest[LAYOUT_NAME_MAX] = '\0';
    assert_true(layout_name_ok(longest));
    longest[LAYOUT_NAME_MAX] = 'a';
    longest[LAYOUT_NAME_MAX + 1] = '\0';
    assert_false(layout_name_ok(longest));
}

static void image_names(UNUSED void **state)
{
    static const char *const good[] = {"debian/13", "debian", "a/b/c"};
    static const char *const bad[] = {"", "/", "/debian", "debian/", "a//b", "../x", "a/..", "a/.b", "a\\b", NULL};

    for (size_t i = 0; i < ARRAY_LEN(good); i++)
        assert_true(layout_image_ok(good[i]));
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_false(layout_image_ok(bad[i]));
}

static void slots(UNUSED void **state)
{
    assert_false(layout_slot_ok(0));
    assert_false(layout_slot_ok(-1));
    assert_true(layout_slot_ok(1));
    assert_true(layout_slot_ok(LAYOUT_SLOT_MAX));
    assert_false(layout_slot_ok(LAYOUT_SLOT_MAX + 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(paths),
        cmocka_unit_test(names),
        cmocka_unit_test(image_names),
        cmocka_unit_test(slots),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
