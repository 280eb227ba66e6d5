/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A root file system that wants our writes to go elsewhere. Every path that seeding touches, found by looking at what
 * it leaves in an empty tree, is replaced by each kind of trap in turn; then the seeding runs again. It must succeed,
 * and nothing outside may have changed. Needs root, for the owners.
 */
#include "test.h"

#include <pthread.h>
#include <stdatomic.h>

#include "provisioning/confined.h"
#include "provisioning/env.h"
#include "provisioning/seed.h"
#include "scratch.h"

static const char kit_manifest[] =
    "{\"format\": 1, \"name\": \"probe\", \"version\": \"1\", \"payload\": {\"size\": 1, \"sha256\": "
    "\"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\"}, \"units\": [\"hoody-probe.service\"], "
    "\"services\": [{\"slug\": \"probe\", \"port\": 7009, \"protocol\": \"http\", \"unit\": \"hoody-probe.service\"}],"
    "\"environment\": {\"PROBE\": \"1\"}}";

struct world {
    char *dir, *root, *outside, *pool;
    struct seed seed;
};

static void world_make(struct world *w)
{
    autofree char *kits = NULL, *kit = NULL;
    autojson seed =
        json_pack("{s:s, s:s, s:s, s:s, s:{s:s}, s:s, s:s, s:s, s:s, s:[s], s:[{s:s, s:s}]}", "container_id",
                  "0123456789abcdef01234567", "hostname", "web1", "machine_id", "0123456789abcdef0123456789abcdef",
                  "ssh_public_key", "ssh-ed25519 AAAA someone", "environment", "KEY", "value", "ipv4", "10.96.0.1",
                  "ipv6", "fd6e::1", "gateway4", "169.254.1.1", "gateway6", "fe80::1", "dns", "1.1.1.1", "kits", "name",
                  "probe", "version", "1");

    w->dir = scratch_new();
    w->root = str_fmt("%s/root", w->dir);
    w->outside = str_fmt("%s/outside", w->dir);
    w->pool = str_fmt("%s/pool", w->dir);
    kits = str_fmt("%s/kits", w->pool);
    kit = str_fmt("%s/probe-1", kits);
    assert_int_equal(mkdir(w->root, 0755), 0);
    assert_int_equal(mkdir(w->outside, 0755), 0);
    assert_int_equal(mkdir(w->pool, 0755), 0);
    assert_int_equal(mkdir(kits, 0755), 0);
    assert_int_equal(mkdir(kit, 0755), 0);
    scratch_write(kit, "manifest.json", kit_manifest);
    scratch_write(w->outside, "victim", "untouched");
    w->seed = (struct seed){0};
    assert_ok(json_table_load(&seed_table, seed, &w->seed, NULL));
}

static void world_remove(struct world *w)
{
    scratch_remove(w->dir);
    json_table_clear(&seed_table, &w->seed);
    free(w->dir);
    free(w->root);
    free(w->outside);
    free(w->pool);
}

static struct err *seed(const struct world *w)
{
    autofd int root = -1;
    struct err *e = confined_open_root(w->root, &root);

    return e ? e : seed_rootfs(root, &w->seed, w->pool);
}

/* --- the paths */

static char *paths[256];
static size_t path_count, root_len;

static int collect(const char *path, UNUSED const struct stat *st, UNUSED int type, UNUSED struct FTW *ftw)
{
    if (path[root_len] && path_count < ARRAY_LEN(paths))
        paths[path_count++] = str_dup(path + root_len);
    return 0;
}

static void collect_paths(void)
{
    struct world w;

    world_make(&w);
    assert_ok(seed(&w));
    root_len = strlen(w.root);
    nftw(w.root, collect, 16, FTW_PHYS);
    /* Those that are removed and not written. */
    paths[path_count++] = str_dup("/etc/ssh");
    paths[path_count++] = str_dup("/etc/ssh/ssh_host_ed25519_key");
    paths[path_count++] = str_dup("/var/lib/dbus/machine-id");
    paths[path_count++] = str_dup("/var/lib/dbus");
    world_remove(&w);
}

/* --- the traps */

static void link_absolute(const struct world *w, const char *path)
{
    autofree char *target = str_fmt("%s/victim", w->outside);

    assert_int_equal(symlink(target, path), 0);
}

static void link_absolute_dir(const struct world *w, const char *path)
{
    assert_int_equal(symlink(w->outside, path), 0);
}

static void link_relative(const struct world *w, const char *path)
{
    autofree char *target = str_fmt("../../../../../../../../../..%s", w->outside);

    assert_int_equal(symlink(target, path), 0);
}

static void link_relative_short(UNUSED const struct world *w, const char *path)
{
    assert_int_equal(symlink("../../../outside/victim", path), 0);
}

static void link_dangling(const struct world *w, const char *path)
{
    autofree char *target = str_fmt("%s/made-by-us", w->outside);

    assert_int_equal(symlink(target, path), 0);
}

static void link_loop(UNUSED const struct world *w, const char *path)
{
    assert_int_equal(symlink(path, path), 0);
}

static void link_magic(UNUSED const struct world *w, const char *path)
{
    assert_int_equal(symlink("/proc/self/root/tmp", path), 0);
}

static void hard_link(const struct world *w, const char *path)
{
    autofree char *target = str_fmt("%s/victim", w->outside);

    assert_int_equal(link(target, path), 0);
}

static void fifo(UNUSED const struct world *w, const char *path)
{
    assert_int_equal(mkfifo(path, 0666), 0);
}

static void full_directory(UNUSED const struct world *w, const char *path)
{
    assert_int_equal(mkdir(path, 0755), 0);
    scratch_write(path, "something", "kept");
}

static void locked_file(UNUSED const struct world *w, const char *path)
{
    assert_int_equal(mknod(path, S_IFREG, 0), 0);
}

static const struct trap {
    const char *name;
    void (*set)(const struct world *w, const char *path);
} traps[] = {
    {"absolute link to a file", link_absolute},
    {"absolute link to a directory", link_absolute_dir},
    {"relative link out", link_relative},
    {"short relative link out", link_relative_short},
    {"dangling link", link_dangling},
    {"link to itself", link_loop},
    {"link through /proc", link_magic},
    {"hard link to a file outside", hard_link},
    {"fifo", fifo},
    {"directory that is not empty", full_directory},
    {"file", locked_file},
};

static void make_parents(const char *path)
{
    for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        autofree char *dir = str_fmt("%.*s", (int)(slash - path), path);

        mkdir(dir, 0755);
    }
}

static void check_trap(const struct trap *trap, const char *path, bool seeded_before)
{
    struct world w;
    autofree char *full = NULL, *before = NULL, *after = NULL;
    struct err *e;

    world_make(&w);
    full = str_fmt("%s%s", w.root, path);
    if (seeded_before)
        assert_ok(seed(&w));
    scratch_remove(full);
    make_parents(full);
    trap->set(&w, full);
    before = scratch_fingerprint(w.outside);
    alarm(20);
    e = seed(&w);
    alarm(0);
    after = scratch_fingerprint(w.outside);
    if (strcmp(before, after) != 0)
        fail_msg("%s at %s: outside changed:\n%s", trap->name, path, after);
    if (e)
        fail_msg("%s at %s: %s", trap->name, path, err_message(e));
    world_remove(&w);
}

static void test_traps(UNUSED void **state)
{
    assert_true(path_count > 25);
    for (size_t i = 0; i < path_count; i++)
        for (size_t k = 0; k < ARRAY_LEN(traps); k++) {
            check_trap(&traps[k], paths[i], false);
            check_trap(&traps[k], paths[i], true);
        }
}

/* The one file that is another each time; takes it away. The caller frees it. */
static char *take_random_seed(const struct world *w)
{
    autofree char *path = str_fmt("%s/var/lib/systemd/random-seed", w->root);
    char *bytes = NULL;
    size_t len = 0;

    assert_ok(fd_read_file(path, 4096, &bytes, &len));
    assert_int_equal(len, 256);
    assert_int_equal(unlink(path), 0);
    return bytes;
}

/* What is left behind is right, not only harmless. */
static void test_result_is_whole(UNUSED void **state)
{
    struct world w;
    autofree char *clean = NULL, *again = NULL, *trap = NULL, *one = NULL, *other = NULL;
    struct stat st;

    world_make(&w);
    assert_ok(seed(&w));
    one = take_random_seed(&w);
    clean = scratch_fingerprint(w.root);
    assert_non_null(strstr(clean, "/etc/hostname 100644 0:0 [web1\n]"));
    assert_non_null(strstr(clean, "/root/.ssh/authorized_keys 100600 0:0 [ssh-ed25519 AAAA someone # noded\n]"));
    assert_non_null(strstr(clean, "/home/user/.ssh/authorized_keys 100600 1000:1000"));
    assert_non_null(strstr(clean, "/etc/sudoers.d/user 100440 0:0 [user ALL=(ALL) NOPASSWD: ALL\n"
                                  "#1000 ALL=(ALL) NOPASSWD: ALL\n]"));
    assert_non_null(strstr(clean, "/etc/systemd/system/multi-user.target.wants/hoody-probe.service"));
    assert_non_null(strstr(clean, "HOODY_CONTAINER_ID=0123456789abcdef01234567\n"));
    assert_non_null(strstr(clean, "/etc/default/locale 120777 0:0 -> ../locale.conf"));
    assert_ok(seed(&w));
    other = take_random_seed(&w);
    assert_memory_not_equal(one, other, 256);
    again = scratch_fingerprint(w.root);
    assert_string_equal(clean, again);
    trap = str_fmt("%s/etc/hostname", w.root);
    unlink(trap);
    link_absolute(&w, trap);
    assert_ok(seed(&w));
    assert_int_equal(lstat(trap, &st), 0);
    assert_true(S_ISREG(st.st_mode));
    world_remove(&w);
}

/* --- somebody who exchanges a directory and a link out while we write */

struct racer {
    const struct world *w;
    atomic_bool stop;
};

static void *race(void *arg)
{
    struct racer *r = arg;
    autofree char *dir = str_fmt("%s/etc", r->w->root), *link = str_fmt("%s/etc-link", r->w->root);

    assert_int_equal(symlink(r->w->outside, link), 0);
    while (!atomic_load(&r->stop))
        renameat2(AT_FDCWD, dir, AT_FDCWD, link, RENAME_EXCHANGE);
    return NULL;
}

static void test_race(UNUSED void **state)
{
    struct world w;
    struct racer r = {.w = &w};
    autofree char *before = NULL, *after = NULL;
    pthread_t thread;

    world_make(&w);
    assert_ok(seed(&w));
    before = scratch_fingerprint(w.outside);
    assert_int_equal(pthread_create(&thread, NULL, race, &r), 0);
    for (int i = 0; i < 300; i++)
        err_ignore(seed(&w));
    atomic_store(&r.stop, true);
    pthread_join(thread, NULL);
    after = scratch_fingerprint(w.outside);
    assert_string_equal(before, after);
    world_remove(&w);
}

static void test_primitives(UNUSED void **state)
{
    struct world w;
    autofd int root = -1, none = -1, host = -1;
    autofree char *text = NULL, *path = NULL;

    world_make(&w);
    assert_ok(confined_open_root(w.root, &root));
    path = str_fmt("%s/pipe", w.root);
    fifo(&w, path);
    alarm(10);
    assert_err(confined_read(root, "/pipe", 100, &text, NULL), ERR_NOT_FOUND);
    alarm(0);
    assert_err(confined_read(root, "/absent", 100, &text, NULL), ERR_NOT_FOUND);
    assert_ok(confined_open_root("/", &host));
    assert_err(confined_read(host, "/proc/version", 4096, &text, NULL), ERR_NOT_FOUND);
    assert_err(confined_read(host, "/sys/kernel/notes", 4096, &text, NULL), ERR_NOT_FOUND);
    assert_err(confined_read_unmounted(host, "/proc/version", 4096, &text, NULL), ERR_NOT_FOUND);
    assert_err(confined_open_dir(root, "/absent", &none), ERR_NOT_FOUND);
    assert_err(confined_write(root, "/", "x", 1, 0644, (struct confined_owner){0, 0}), ERR_INVALID);
    assert_err(confined_write(root, "/a/..", "x", 1, 0644, (struct confined_owner){0, 0}), ERR_INVALID);
    assert_err(confined_write(root, "", "x", 1, 0644, (struct confined_owner){0, 0}), ERR_INVALID);
    assert_ok(confined_write(root, "/big", "0123456789", 10, 0644, (struct confined_owner){0, 0}));
    assert_err(confined_read(root, "/big", 5, &text, NULL), ERR_TOO_LARGE);
    assert_true(confined_exists(root, "/big"));
    assert_ok(confined_remove(root, "/big"));
    assert_ok(confined_remove(root, "/big"));
    assert_false(confined_exists(root, "/big"));
    world_remove(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_result_is_whole),
        cmocka_unit_test(test_traps),
        cmocka_unit_test(test_race),
        cmocka_unit_test(test_primitives),
    };
    int failed;

    if (geteuid() != 0) {
        fprintf(stderr, "skipped: needs root\n");
        return 77;
    }
    collect_paths();
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    for (size_t i = 0; i < path_count; i++)
        free(paths[i]);
    return failed;
}
