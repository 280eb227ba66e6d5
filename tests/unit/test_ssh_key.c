/* SPDX-License-Identifier: Apache-2.0 */
/* Public keys of logins: what is taken, how it is tidied, what is refused. */
#include "test.h"

#include "agent/containers/ssh_host_key.h"
#include "agent/containers/ssh_key.h"
#include "base/str.h"

static void test_ssh_keys(UNUSED void **state)
{
    static const char key[] = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJYV6oFMzHwYHCkWQUcJXGwmGzfYyFq1YpNlB0uBCsbe";
    autofree char *with_comment = str_fmt("%s a comment", key), *print = ssh_key_fingerprint(with_comment);

    assert_string_equal(print, "SHA256:c/PyGFsevF7FCAlnibUSqT+3BzCHCreG47Gxo1JGb9E");
    assert_null(ssh_key_fingerprint(NULL));
    assert_true(ssh_key_same(key, with_comment));
    assert_false(ssh_key_same(key, NULL));
    assert_false(ssh_key_same(NULL, NULL));
    assert_false(ssh_key_same(key, "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJYV6oFMzHwYHCkWQUcJXGwmGzfYyFq1YpNlB0uBCsbf"));
}

#define ED25519_BLOB "AAAAC3NzaC1lZDI1NTE5AAAAIJYV6oFMzHwYHCkWQUcJXGwmGzfYyFq1YpNlB0uBCsbe"

static void test_ssh_keys_are_tidied(UNUSED void **state)
{
    static const char *const spellings[] = {
        "ssh-ed25519 " ED25519_BLOB " a  b",       "ssh-ed25519 " ED25519_BLOB " a  b\n",
        "ssh-ed25519 " ED25519_BLOB " a  b\r\n",   "  ssh-ed25519  " ED25519_BLOB "   a  b ",
        "ssh-ed25519\t" ED25519_BLOB "\ta  b\n\n",
    };

    for (size_t i = 0; i < ARRAY_LEN(spellings); i++) {
        autofree char *key = str_dup(spellings[i]);

        assert_ok(ssh_key_check("k", key));
        assert_string_equal(key, "ssh-ed25519 " ED25519_BLOB " a  b");
    }
}

static void test_ssh_keys_that_nobody_could_log_in_with(UNUSED void **state)
{
    static const char *const bad[] = {
        "",
        " \n",
        "ssh-ed25519",
        "ssh-ed25519 ",
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJYV6oFMzHwYHCkW",            /* cut */
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJYV6oFMzHwYHCkWQUcJXGwmGzf", /* cut inside a group */
        "ssh-ed25519 " ED25519_BLOB "AAAA",                                /* too long */
        "ssh-ed25519 " ED25519_BLOB "=",
        "ssh-ed25519 AAAA=C3NzaC1lZDI1NTE5AAAAIJYV6oFMzHwYHCkWQUcJXGwmGzfYyFq1YpNlB0uBCsbe",
        "ssh-rsa " ED25519_BLOB,
        "ecdsa-sha2-nistp256 " ED25519_BLOB,
        "sk-ssh-ed25519@openssh.com " ED25519_BLOB,
        "ssh-ed25519 " ED25519_BLOB " a\nssh-ed25519 " ED25519_BLOB " b",
        "restrict ssh-ed25519 " ED25519_BLOB,
        "ssh-dss " ED25519_BLOB,
    };

    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        autofree char *key = str_dup(bad[i]);
        struct err *e = ssh_key_check("the_field", key);

        assert_non_null(e);
        assert_int_equal(e->code, ERR_INVALID);
        assert_string_equal(e->field, "the_field");
        err_free(e);
    }
}

static void test_host_keys(UNUSED void **state)
{
    autofree char *secret = NULL, *public = NULL, *other = NULL, *other_public = NULL;
    autofree char *line = NULL;

    assert_null(ssh_host_key_new(&secret, &public));
    assert_null(ssh_host_key_new(&other, &other_public));
    assert_string_not_equal(secret, other);
    assert_string_not_equal(public, other_public);
    assert_memory_equal(secret, "-----BEGIN OPENSSH PRIVATE KEY-----\n", 36);
    line = str_dup(public);
    assert_null(ssh_key_check("key", line));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ssh_keys),
        cmocka_unit_test(test_ssh_keys_are_tidied),
        cmocka_unit_test(test_host_keys),
        cmocka_unit_test(test_ssh_keys_that_nobody_could_log_in_with),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
