/* SPDX-License-Identifier: Apache-2.0 */
/* Image names, kit names, and the texts of environment files. */
#include "test.h"

#include "base/str.h"
#include "images/image.h"
#include "provisioning/bundle.h"
#include "provisioning/env.h"

static void check_image(const char *in, const char *out)
{
    autofree char *name = image_name_canonical(in);

    if (!str_eq(name, out))
        fail_msg("'%s': '%s', wanted '%s'", in ? in : "NULL", name ? name : "NULL", out ? out : "NULL");
}

static void test_image_names(UNUSED void **state)
{
    static const char *const same[] = {"debian/13", "debian", "debian-13", "debian:13", "debian 13", "Debian 13", NULL};
    static const char *const bad[] = {"",           "/",           "debian/",      "/13",         "debian/13/x",
                                      "../13",      "debian/..",   "debian/../x",  "debian\n13",  "debian/1 3",
                                      "ubuntu",     "a/\x01",      "d\xc3\xa9/13", "debian//13",  ".a/1",
                                      "debian/-13", "debian/13 ;", "$(x)/1",       "debian/\"13", "%s/%n"};
    char longest[80];

    for (size_t i = 0; i < ARRAY_LEN(same); i++)
        check_image(same[i], "debian/13");
    check_image("ubuntu:24.04", "ubuntu/24.04");
    check_image("alpine-3.20", "alpine/3.20");
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        check_image(bad[i], NULL);
    memset(longest, 'a', sizeof(longest));
    longest[sizeof(longest) - 1] = '\0';
    check_image(longest, NULL);
}

static void test_kit_names(UNUSED void **state)
{
    assert_true(manifest_is_name("files"));
    assert_true(manifest_is_name("web-2"));
    assert_false(manifest_is_name("-x"));
    assert_false(manifest_is_name(""));
    assert_false(manifest_is_name("../x"));
    assert_false(manifest_is_name("A"));
    assert_true(manifest_is_version("1.0.0+abc"));
    assert_false(manifest_is_version(".."));
    assert_false(manifest_is_version("v1"));
    assert_false(manifest_is_version("1/2"));
}

static json_t *manifest_with(const char *key, json_t *value)
{
    json_t *j = json_pack(
        "{s:i, s:s, s:s, s:{s:s, s:i}, s:[s], s:[{s:s, s:i, s:s, s:s}]}", "format", 1, "name", "x", "version", "1",
        "payload", "sha256", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", "size", 1, "units",
        "hoody-x.service", "services", "slug", "x", "port", 80, "protocol", "http", "unit", "hoody-x.service");

    if (key)
        json_object_set_new(j, key, value);
    return j;
}

static void refused(const char *key, json_t *value)
{
    autojson j = manifest_with(key, value);
    struct manifest m;

    assert_err(manifest_load(j, &m), ERR_INVALID);
}

static void test_manifest(UNUSED void **state)
{
    autojson good = manifest_with(NULL, NULL);
    struct manifest m;

    assert_ok(manifest_load(good, &m));
    json_table_clear(&manifest_table, &m);
    refused("format", json_integer(2));
    refused("name", json_string("../../x"));
    refused("version", json_string("1/../.."));
    refused("unknown", json_true());
    refused("units", json_pack("[s]", "ssh.service"));
    refused("units", json_pack("[s]", "hoody-/../../etc/x.service"));
    refused("units", json_pack("[s]", "hoody-x"));
    refused("units", json_pack("[i]", 1));
    refused("payload", json_pack("{s:s, s:i}", "sha256", "00", "size", 1));
    refused("payload",
            json_pack("{s:s, s:I}", "sha256", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
                      "size", (json_int_t)1 << 40));
    refused("services",
            json_pack("[{s:s, s:i, s:s, s:s}]", "slug", "x", "port", 0, "protocol", "http", "unit", "hoody-x.service"));
    refused("services",
            json_pack("[{s:s, s:i, s:s, s:s}]", "slug", "x", "port", 1, "protocol", "ftp", "unit", "hoody-x.service"));
    refused("services", json_pack("[{s:s, s:i, s:s, s:s}]", "slug", "x", "port", 1, "protocol", "http", "unit",
                                  "hoody-other.service"));
    refused("environment", json_pack("{s:s}", "A-B", "x"));
    refused("environment", json_pack("{s:s}", "A", "x\ny"));
}

static void test_pam_text(UNUSED void **state)
{
    autojson env = json_pack("{s:s, s:s, s:s, s:s}", "PLAIN", "a b", "QUOTE", "say \"hi\"", "HASH", "a#b", "LINE",
                             "a\nLD_PRELOAD=/x");
    autojson less = json_pack("{s:s}", "PLAIN", "new");
    autofree char *first = env_render_pam("# mine\nMINE=1\nHOODY_CONTAINER_ID=old\n", "id1", env);
    autofree char *second = env_render_pam(first, NULL, less);
    autofree char *third = env_render_pam(second, NULL, less);

    assert_non_null(strstr(first, "# mine\nMINE=1\nHOODY_CONTAINER_ID=id1\n# begin"));
    assert_null(strstr(first, "old"));
    assert_non_null(strstr(first, "\nPLAIN=\"a b\"\n"));
    assert_non_null(strstr(first, "\nQUOTE=\"say \"hi\"\"\n"));
    assert_null(strstr(first, "HASH="));
    assert_null(strstr(first, "LD_PRELOAD"));
    assert_string_equal(second,
                        "# mine\nMINE=1\nHOODY_CONTAINER_ID=id1\n# begin: set through the platform, do not edit\n"
                        "PLAIN=\"new\"\n# end: set through the platform\n");
    assert_string_equal(second, third);
}

static void test_profile_text(UNUSED void **state)
{
    autojson env = json_pack("{s:s, s:s, s:s}", "A", "it's", "B", "$(x) `y` \\ \"\n#", "BAD-KEY", "x");
    autofree char *text = env_render_profile(env);

    assert_non_null(strstr(text, "export A='it'\\''s'\n"));
    assert_non_null(strstr(text, "export B='$(x) `y` \\ \"\n#'\n"));
    assert_null(strstr(text, "BAD"));
    assert_true(env_is_key("_A9"));
    assert_false(env_is_key("9A"));
    assert_false(env_is_key(""));
    assert_false(env_is_key("A B"));
}

static void test_units_file(UNUSED void **state)
{
    autojson env = json_pack("{s:s, s:s, s:s}", "A", "it's # \ta\nb ", "B", "100% \"q\" \\ $x `y`", "BAD-KEY", "x");
    autofree char *text = env_render_units(env);

    assert_string_equal(text, "# Set through the platform; written anew with every change.\n"
                              "A=\"it's # \ta\nb \"\n"
                              "B=\"100% \\\"q\\\" \\\\ \\$x \\`y\\`\"\n");
}

static void test_manager_file(UNUSED void **state)
{
    autojson env =
        json_pack("{s:s, s:s, s:s, s:s}", "A", "it's", "B", "100% \"q\" \\ $x", "C", "\ta\n\nb\n", "BAD-KEY", "x");
    autofree char *text = env_render_manager(env);

    assert_string_equal(text, "# Set through the platform; written anew with every change.\n[Manager]\n"
                              "DefaultEnvironment=\"A=it's\"\n"
                              "DefaultEnvironment=\"B=100%% \\\"q\\\" \\\\ $x\"\n"
                              "DefaultEnvironment=\"C=\\ta\\n\\nb\\n\"\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_image_names),  cmocka_unit_test(test_kit_names),    cmocka_unit_test(test_manifest),
        cmocka_unit_test(test_pam_text),     cmocka_unit_test(test_manager_file), cmocka_unit_test(test_units_file),
        cmocka_unit_test(test_profile_text),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
