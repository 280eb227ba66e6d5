/* SPDX-License-Identifier: Apache-2.0 */
#include <poll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/json_table.h"
#include "base/str.h"
#include "test.h"
#include "transfer/wire.h"

static int pair[2];
static struct wire *ours, *theirs;

static void connect_both(int pace_s)
{
    struct wire_config c = {.other = "the other", .wrong = ERR_HOST, .cut = ERR_CANCELLED, .pace_s = pace_s};

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    c.fd = pair[0];
    assert_ok(wire_new(&c, &ours));
    c.fd = pair[1];
    assert_ok(wire_new(&c, &theirs));
}

static int clear(UNUSED void **state)
{
    wire_free(ours);
    wire_free(theirs);
    (void)close(pair[0]);
    (void)close(pair[1]);
    return 0;
}

static struct err *collect(void *owner, const void *data, size_t len)
{
    int64_t *sum = owner;

    for (size_t i = 0; i < len; i++)
        *sum += ((const unsigned char *)data)[i];
    return NULL;
}

/* Both sides have the same digest of everything, in whatever order a frame's members were. */
static void test_digest(UNUSED void **state)
{
    autojson frame = json_pack("{s:{}, s:i}", "stream", "a", 1);
    autojson got = NULL;
    char mine[WIRE_DIGEST_SIZE], others[WIRE_DIGEST_SIZE], empty[WIRE_DIGEST_SIZE];
    int64_t sum = 0;

    connect_both(0);
    assert_ok(wire_digest(ours, empty));
    assert_ok(wire_send_frame(ours, frame));
    assert_ok(wire_send(ours, "\1\2\3", 3));
    assert_ok(wire_send(ours, NULL, 0));
    assert_ok(wire_send_end(ours));
    assert_ok(wire_receive_frame(theirs, &got));
    assert_true(json_equal(frame, got));
    assert_ok(wire_receive(theirs, collect, &sum));
    assert_int_equal(sum, 6);
    assert_ok(wire_digest(ours, mine));
    assert_ok(wire_digest(theirs, others));
    assert_string_equal(mine, others);
    assert_string_not_equal(mine, empty);
    assert_int_equal(shutdown(pair[0], SHUT_WR), 0);
    assert_ok(wire_receive_end(theirs));
}

static void expect_slow(struct err *e)
{
    assert_non_null(e);
    assert_int_equal(e->code, ERR_TIMEOUT);
    assert_non_null(strstr(e->message, "too slow"));
    err_free(e);
}

/* In a child of its own: pieces of one byte, for ever. */
static void trickle(void)
{
    for (;;) {
        err_ignore(wire_send(ours, "x", 1));
        (void)poll(NULL, 0, 20);
    }
}

static void test_a_sender_that_trickles(UNUSED void **state)
{
    int64_t sum = 0;
    pid_t pid;

    connect_both(1);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0)
        trickle();
    expect_slow(wire_receive(theirs, collect, &sum));
    assert_true(sum > 10 * 'x');
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void test_a_sender_that_is_idle_for_ever(UNUSED void **state)
{
    int64_t sum = 0;

    connect_both(0);
    for (int i = 0; i < WIRE_IDLES_MAX + 1; i++)
        assert_ok(wire_send(ours, NULL, 0));
    assert_ok(wire_send(ours, "x", 1));
    expect_slow(wire_receive(theirs, collect, &sum));
}

/* What it gives in time is taken, however long the receiver takes for it. */
static void test_a_receiver_that_takes_its_time(UNUSED void **state)
{
    int64_t sum = 0;

    connect_both(1);
    assert_ok(wire_send(ours, "x", 1));
    assert_ok(wire_send_end(ours));
    (void)poll(NULL, 0, 1500);
    assert_ok(wire_receive(theirs, collect, &sum));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_digest, clear),
        cmocka_unit_test_teardown(test_a_sender_that_trickles, clear),
        cmocka_unit_test_teardown(test_a_sender_that_is_idle_for_ever, clear),
        cmocka_unit_test_teardown(test_a_receiver_that_takes_its_time, clear),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
