/* SPDX-License-Identifier: Apache-2.0 */
/* What becomes an archive, and whoever takes it: too slowly, or not at all. */
#include "test.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "base/frame.h"
#include "base/json_table.h"
#include "base/pace.h"
#include "provisioning/pack.h"
#include "provisioning/pack_check.h"
#include "scratch.h"

enum { BYTES = 16 << 20, DEPTH_MAX = 64 };

static char *top;
static int dir, pair[2];

static int set_up(UNUSED void **state)
{
    (void)signal(SIGPIPE, SIG_IGN);
    top = scratch_new();
    dir = open(top, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(dir >= 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    assert_ok(pace_limits(pair[0], 0));
    return 0;
}

static int clear(UNUSED void **state)
{
    (void)close(dir);
    (void)close(pair[0]);
    (void)close(pair[1]);
    scratch_remove(top);
    free(top);
    return 0;
}

static struct err *pack_here(int pace_s)
{
    const struct pack_config config = {.fd = pair[0], .pace_s = pace_s};
    auto_(pack_free) struct pack *p = NULL;
    struct err *e = pack_new(&config, &p);
    int64_t bytes = 0;

    if (!e)
        e = pack_tree(p, dir, "tree", NULL);
    return e ? e : pack_finish(p, &bytes);
}

/* In a process of its own, as the worker does it: libarchive keeps some memory of an archive that is given up. */
static struct err *pack_all(int pace_s)
{
    autojson said = NULL;
    int answer[2];
    pid_t pid;

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, answer), 0);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        struct err *e = pack_here(pace_s);
        autojson frame = e ? err_to_json(e) : json_object();

        err_ignore(frame_send(answer[1], frame));
        _exit(0);
    }
    assert_ok(frame_receive(answer[0], &said));
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    (void)close(answer[0]);
    (void)close(answer[1]);
    return json_object_size(said) ? err_from_json(said) : NULL;
}

/* With data in all of it: a hole is not written. */
static void make_large_file(void)
{
    autofree char *path = str_fmt("%s/large", top), *block = mem_alloc(1, 1 << 20);
    autofd int fd = -1;

    scratch_write(top, "large", "");
    fd = open(path, O_WRONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    memset(block, 'x', 1 << 20);
    for (int written = 0; written < BYTES; written += 1 << 20)
        assert_int_equal(write(fd, block, 1 << 20), 1 << 20);
}

/* In a child of its own: so many bytes, and a rest, for ever. */
static pid_t take(size_t at_a_time, int pause_ms)
{
    pid_t pid = fork();
    char block[65536];

    assert_true(pid >= 0);
    if (pid > 0)
        return pid;
    (void)close(pair[0]);
    while (read(pair[1], block, at_a_time) > 0)
        (void)poll(NULL, 0, pause_ms);
    _exit(0);
}

static void end(pid_t pid)
{
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void test_a_taker_that_trickles(UNUSED void **state)
{
    struct err *e;
    pid_t pid;

    make_large_file();
    pid = take(4096, 20);
    e = pack_all(1);
    end(pid);
    assert_non_null(e);
    assert_int_equal(e->code, ERR_TIMEOUT);
    assert_string_equal(e->message, "who takes the archive is too slow: less than 4 MiB in 1 seconds");
    err_free(e);
}

static void test_a_taker_that_is_fast_enough(UNUSED void **state)
{
    pid_t pid;

    make_large_file();
    pid = take(65536, 0);
    assert_ok(pack_all(60));
    end(pid);
}

static void test_a_taker_that_leaves(UNUSED void **state)
{
    make_large_file();
    assert_int_equal(close(pair[1]), 0);
    pair[1] = -1;
    assert_err(pack_all(0), ERR_CANCELLED);
}

static void make_dir(const char *path)
{
    assert_int_equal(mkdirat(dir, path, 0755), 0);
}

/* Directories below each other, with "tree" as many as it says; the path of the last one, the caller's. */
static char *make_deep(int depth)
{
    char *path = str_dup("d");

    make_dir(path);
    for (int i = 2; i < depth; i++) {
        char *longer = str_fmt("%s/d", path);

        free(path);
        path = longer;
        make_dir(path);
    }
    return path;
}

/* The same things have no place whether they are looked at first or packed. */
static void expect_no_place(const char *words)
{
    struct err *e = pack_check(dir, "tree");
    pid_t pid;

    assert_non_null(e);
    assert_int_equal(e->code, ERR_HOST);
    assert_non_null(strstr(e->message, words));
    assert_non_null(strstr(e->message, "'stream' can"));
    err_free(e);
    pid = take(65536, 0);
    assert_err(pack_all(60), ERR_HOST);
    end(pid);
}

static void test_a_link_that_is_too_long(UNUSED void **state)
{
    char target[1100];

    memset(target, 'x', sizeof(target));
    target[1023] = '\0';
    assert_int_equal(symlinkat(target, dir, "fits"), 0);
    assert_ok(pack_check(dir, "tree"));
    target[1023] = 'x';
    target[1024] = '\0';
    assert_int_equal(symlinkat(target, dir, "link"), 0);
    expect_no_place("its link target is too long");
}

static void test_a_path_that_is_too_deep(UNUSED void **state)
{
    autofree char *deepest = make_deep(DEPTH_MAX), *more = str_fmt("%s/d", deepest);

    assert_ok(pack_check(dir, "tree"));
    make_dir(more);
    expect_no_place("too deep");
}

/* What is left out may lie anywhere. */
static void test_what_is_left_out(UNUSED void **state)
{
    autofree char *deepest = make_deep(DEPTH_MAX), *name = str_fmt("%s/socket", deepest);

    assert_int_equal(mknodat(dir, name, S_IFSOCK | 0600, 0), 0);
    assert_ok(pack_check(dir, "tree"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_taker_that_trickles, set_up, clear),
        cmocka_unit_test_setup_teardown(test_a_taker_that_is_fast_enough, set_up, clear),
        cmocka_unit_test_setup_teardown(test_a_taker_that_leaves, set_up, clear),
        cmocka_unit_test_setup_teardown(test_a_link_that_is_too_long, set_up, clear),
        cmocka_unit_test_setup_teardown(test_a_path_that_is_too_deep, set_up, clear),
        cmocka_unit_test_setup_teardown(test_what_is_left_out, set_up, clear),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
