/* SPDX-License-Identifier: Apache-2.0 */
/* What is believed of a container's ssh sessions. */
#include "test.h"

#include "runtime/container/sessions.h"

static void test_titles(UNUSED void **state)
{
    assert_true(sessions_is_title("sshd: root@pts/0"));
    assert_true(sessions_is_title("sshd-session: user@notty"));
    assert_false(sessions_is_title("sshd: /usr/sbin/sshd -D [listener] 0 of 10-100 startups"));
    assert_false(sessions_is_title("sshd: user@host [listener] 0 of 10-100 startups"));
    assert_false(sessions_is_title("sshd-session: root [priv]"));
    assert_false(sessions_is_title("bash"));
    assert_false(sessions_is_title("grep sshd: root@pts/0"));
    assert_false(sessions_is_title(""));
}

static void test_keys(UNUSED void **state)
{
    static const char info[] = "publickey ssh-ed25519 AAAAone\npublickey ssh-rsa AAAAtwo";

    assert_true(sessions_names_key(info, "ssh-ed25519 AAAAone with a comment"));
    assert_true(sessions_names_key(info, "ssh-rsa AAAAtwo"));
    assert_false(sessions_names_key(info, "ssh-rsa AAAAone"));
    assert_false(sessions_names_key(info, "ssh-ed25519 AAAAon"));
    assert_false(sessions_names_key(info, "ssh-ed25519 AAAAone2"));
    assert_false(sessions_names_key("password", "ssh-ed25519 AAAAone"));
    assert_false(sessions_names_key("publickey ", "ssh-ed25519 AAAAone"));
    assert_false(sessions_names_key("", "ssh-ed25519 AAAAone"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_titles), cmocka_unit_test(test_keys)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
