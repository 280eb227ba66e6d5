/* SPDX-License-Identifier: Apache-2.0 */
/* Bundles as `nodectl kit build` makes them, and kits that cannot be together. */
#include "test.h"

#include <openssl/evp.h>
#include <openssl/pem.h>

#include "provisioning/bundle.h"
#include "scratch.h"

static char *dir, *public_key;

static void test_clash_of_two(UNUSED void **state)
{
    autojson a = json_loads("{\"name\":\"a\",\"version\":\"1\",\"units\":[\"hoody-a.service\"],\"services\":[{\"slug\":"
                            "\"a\",\"port\":80}]}",
                            0, NULL);
    autojson b = json_loads("{\"name\":\"b\",\"version\":\"2\",\"units\":[\"hoody-b.service\"],\"services\":[{\"slug\":"
                            "\"b\",\"port\":70,\"port_last\":79}]}",
                            0, NULL);
    json_t *service = json_array_get(json_object_get(b, "services"), 0);

    assert_ok(manifest_check_clash(a, b));
    json_object_set_new(service, "port_last", json_integer(80));
    assert_err(manifest_check_clash(a, b), ERR_CONFLICT);
    assert_err(manifest_check_clash(b, a), ERR_CONFLICT);
    json_object_set_new(service, "port_last", json_integer(79));
    json_object_set_new(service, "slug", json_string("a"));
    assert_err(manifest_check_clash(a, b), ERR_CONFLICT);
    json_object_set_new(service, "slug", json_string("b"));
    json_array_set_new(json_object_get(b, "units"), 0, json_string("hoody-a.service"));
    assert_err(manifest_check_clash(a, b), ERR_CONFLICT);
}

static char *build(const char *source, struct err **ret_e)
{
    autofree char *private_key = str_fmt("%s/key", dir);
    const struct bundle_recipe recipe = {.dir = source, .private_key = private_key, .out = dir};
    autojson manifest = NULL;
    char *file = NULL;

    *ret_e = bundle_build(&recipe, &file, &manifest);
    return file;
}

static void build_fails(const char *source, const char *text)
{
    struct err *e = NULL;
    autofree char *file = build(source, &e), *left = str_fmt("%s/built-1.kit", dir);

    assert_null(file);
    assert_non_null(strstr(err_message(e), text));
    err_free(e);
    assert_int_equal(access(left, F_OK), -1);
}

static char *slurp(const char *file, size_t *ret_len)
{
    char *text = NULL;

    assert_ok(fd_read_file(file, 16 << 20, &text, ret_len));
    while (*ret_len && !text[*ret_len - 1])
        --*ret_len; /* what follows the payload in the tar */
    return text;
}

/* What two builds have in common from the end on: the files that did not change. */
static size_t common_end(const char *a, size_t n, const char *b, size_t m)
{
    size_t k = 0;

    while (k < n && k < m && a[n - 1 - k] == b[m - 1 - k])
        k++;
    return k;
}

static void test_build(UNUSED void **state)
{
    autofree char *source = str_fmt("%s/source", dir), *units = str_fmt("%s/tree/units", source);
    autofree char *large = mem_alloc(2 << 20, 1), *file = NULL, *one = NULL, *two = NULL, *link = NULL;
    size_t n = 0, m = 0;
    autojson manifest = NULL;
    struct err *e = NULL;

    for (size_t i = 0, x = 1; i < (2 << 20) - 1; i++, x = x * 6364136223846793005U + 1442695040888963407U)
        large[i] = (char)('!' + (x >> 40) % 90);
    assert_ok(fd_mkdirs(units, 0755));
    scratch_write(source, "kit.json",
                  "{\"name\":\"built\",\"version\":\"1\",\"units\":[\"hoody-b.service\"],"
                  "\"services\":[]}");
    build_fails(source, "units: there is no file tree/units/hoody-b.service");
    scratch_write(units, "hoody-b.service", large);
    scratch_write(source, "tree/a", "one");
    file = build(source, &e);
    assert_ok(e);
    assert_ok(bundle_check(file, public_key, &manifest));
    one = slurp(file, &n);
    scratch_write(source, "tree/a", "another one");
    free(build(source, &e));
    assert_ok(e);
    two = slurp(file, &m);
    assert_true(n > (1 << 20) && common_end(one, n, two, m) > n / 2);
    assert_int_equal(unlink(file), 0);
    link = str_fmt("%s/tree/link", source);
    assert_int_equal(symlink("../../outside", link), 0);
    build_fails(source, "file 'link'");
    assert_int_equal(unlink(link), 0);
    assert_int_equal(mkfifo(link, 0600), 0);
    build_fails(source, "file 'link'");
    assert_int_equal(unlink(link), 0);
    scratch_write(source, "kit.json",
                  "{\"name\":\"built\",\"version\":\"1\",\"units\":[],\"services\":[],\"color\":1}");
    build_fails(source, "color");
}

static int set_up(UNUSED void **state)
{
    EVP_PKEY *key = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
    autofree char *private_key = NULL;
    BIO *bio;

    dir = scratch_new();
    public_key = str_fmt("%s/key.pub", dir);
    bio = BIO_new_file(public_key, "w");
    PEM_write_bio_PUBKEY(bio, key);
    BIO_free(bio);
    private_key = str_fmt("%s/key", dir);
    bio = BIO_new_file(private_key, "w");
    PEM_write_bio_PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL);
    BIO_free(bio);
    EVP_PKEY_free(key);
    return 0;
}

static int tear_down(UNUSED void **state)
{
    scratch_remove(dir);
    free(dir);
    free(public_key);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_build), cmocka_unit_test(test_clash_of_two)};

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
