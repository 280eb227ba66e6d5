/* SPDX-License-Identifier: Apache-2.0 */
/* Bundles that are not what they should be. Each case builds one, with its own key, and looks at what becomes of it. */
#include "test.h"

#include <archive.h>
#include <archive_entry.h>
#include <openssl/evp.h>
#include <openssl/pem.h>

#include "provisioning/bundle.h"
#include "provisioning/unpack.h"
#include "scratch.h"

#define PAYLOAD_MAX (1 << 20)

/* One entry of a payload. type 0 = regular file. */
struct entry {
    const char *path, *data, *link;
    mode_t type, mode;
    bool hard;
};

/* What is changed about a good bundle. */
struct twist {
    bool wrong_key, wrong_sum, wrong_size, no_signature, swapped, extra, cut_off, manifest_changed, not_zstd, named_key;
    const char *manifest_key, *manifest_value;
};

static char *dir, *public_key;
static EVP_PKEY *key, *other_key;

static void add(struct archive *a, const struct entry *e)
{
    struct archive_entry *entry = archive_entry_new();
    size_t len = e->data ? strlen(e->data) : 0;

    archive_entry_set_pathname(entry, e->path);
    archive_entry_set_filetype(entry, e->type ? e->type : AE_IFREG);
    archive_entry_set_perm(entry, e->mode ? e->mode : 0644);
    archive_entry_set_size(entry, (la_int64_t)len);
    if (e->hard)
        archive_entry_set_hardlink(entry, e->link);
    else if (e->link)
        archive_entry_set_symlink(entry, e->link);
    assert_int_equal(archive_write_header(a, entry), ARCHIVE_OK);
    if (len)
        assert_int_equal(archive_write_data(a, e->data, len), len);
    archive_entry_free(entry);
}

/* What systemd does not take for a setting is none. */
#define UNIT                                                                                                           \
    "[Unit]\nUser=none\n[Service]\nExecStart=/bin/true \\\nUser=none\n# User=none\n User = first\nUser=user "          \
    "\n[Install]\n"                                                                                                    \
    "User=none\n"

static size_t make_payload(const struct entry *entries, size_t count, bool zstd, char *ret)
{
    static const struct entry unit = {.path = "units/hoody-x.service", .data = UNIT};
    struct archive *a = archive_write_new();
    size_t used = 0;

    archive_write_set_format_pax_restricted(a);
    if (zstd)
        archive_write_add_filter_zstd(a);
    assert_int_equal(archive_write_open_memory(a, ret, PAYLOAD_MAX, &used), ARCHIVE_OK);
    add(a, &unit);
    for (size_t i = 0; i < count; i++)
        add(a, &entries[i]);
    assert_int_equal(archive_write_close(a), ARCHIVE_OK);
    archive_write_free(a);
    return used;
}

static char *make_manifest(const char *payload, size_t size, const struct twist *t)
{
    unsigned char sum[32];
    char hex[65];
    autojson j = NULL;

    assert_int_equal(EVP_Digest(payload, size, sum, NULL, EVP_sha256(), NULL), 1);
    for (size_t i = 0; i < sizeof(sum); i++)
        snprintf(hex + 2 * i, 3, "%02x", sum[i]);
    if (t->wrong_sum)
        hex[0] = hex[0] == '0' ? '1' : '0';
    j = json_pack("{s:i, s:s, s:s, s:{s:s, s:I}, s:[s], s:[]}", "format", 1, "name", "x", "version", "1", "payload",
                  "sha256", hex, "size", (json_int_t)size + (t->wrong_size ? 1 : 0), "units", "hoody-x.service",
                  "services");
    if (t->manifest_key)
        json_object_set_new(j, t->manifest_key, json_loads(t->manifest_value, JSON_DECODE_ANY, NULL));
    return json_dumps(j, 0);
}

static void sign(const char *text, const struct twist *t, char ret[64])
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    size_t len = 64;

    assert_int_equal(EVP_DigestSignInit(ctx, NULL, NULL, NULL, t->wrong_key ? other_key : key), 1);
    assert_int_equal(EVP_DigestSign(ctx, (unsigned char *)ret, &len, (const unsigned char *)text, strlen(text)), 1);
    EVP_MD_CTX_free(ctx);
}

static void add_bytes(struct archive *a, const char *name, const char *data, size_t len)
{
    struct archive_entry *entry = archive_entry_new();

    archive_entry_set_pathname(entry, name);
    archive_entry_set_filetype(entry, AE_IFREG);
    archive_entry_set_perm(entry, 0644);
    archive_entry_set_size(entry, (la_int64_t)len);
    assert_int_equal(archive_write_header(a, entry), ARCHIVE_OK);
    assert_int_equal(archive_write_data(a, data, len), len);
    archive_entry_free(entry);
}

/* Writes dir/x.kit and returns its path, the caller's. */
static char *make_bundle(const struct entry *entries, size_t count, const struct twist *t)
{
    autofree char *payload = mem_alloc(PAYLOAD_MAX, 1);
    size_t size = make_payload(entries, count, !t->not_zstd, payload);
    autofree char *manifest = make_manifest(payload, size, t);
    char *file = str_fmt("%s/x.kit", dir), signature[96];
    size_t signature_len = t->named_key ? 96 : 64, raw_len = 32;
    struct archive *a = archive_write_new();

    if (t->named_key)
        EVP_PKEY_get_raw_public_key(t->wrong_key ? other_key : key, (unsigned char *)signature, &raw_len);
    sign(manifest, t, signature + signature_len - 64);
    if (t->manifest_changed)
        *strchr(manifest, '1') = '2';
    archive_write_set_format_ustar(a);
    assert_int_equal(archive_write_open_filename(a, file), ARCHIVE_OK);
    if (t->swapped && !t->no_signature)
        add_bytes(a, "manifest.sig", signature, signature_len);
    add_bytes(a, "manifest.json", manifest, strlen(manifest));
    if (!t->swapped && !t->no_signature)
        add_bytes(a, "manifest.sig", signature, signature_len);
    add_bytes(a, "payload.tar.zst", payload, size);
    if (t->extra)
        add_bytes(a, "more", "x", 1);
    assert_int_equal(archive_write_close(a), ARCHIVE_OK);
    archive_write_free(a);
    if (t->cut_off)
        assert_int_equal(truncate(file, 3 * 512 + 700), 0);
    return file;
}

static struct err *unpack(const char *file)
{
    autofree char *target = str_fmt("%s/target", dir);
    autojson manifest = NULL;
    autofd int fd = -1;

    scratch_remove(target);
    assert_int_equal(mkdir(target, 0755), 0);
    fd = open(target, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return bundle_unpack(file, public_key, fd, &manifest);
}

static void entry_is(const struct entry *e, enum err_code wanted)
{
    autofree char *file = make_bundle(e, 1, &(struct twist){0});

    assert_err(unpack(file), wanted);
}

static void twist_is(const struct twist *t, enum err_code wanted)
{
    autofree char *file = make_bundle(NULL, 0, t);

    assert_err(unpack(file), wanted);
}

static void test_good(UNUSED void **state)
{
    const struct entry entries[] = {
        {.path = "bin", .type = AE_IFDIR, .mode = 0700},
        {.path = "bin/tool", .data = "program", .mode = 0777},
        {.path = "bin/other", .link = "tool", .type = AE_IFLNK},
        {.path = "deep/er/file", .data = "x", .mode = 0600},
        {.path = "up", .link = "bin/../bin/tool", .type = AE_IFLNK},
    };
    autofree char *file = make_bundle(entries, ARRAY_LEN(entries), &(struct twist){0});
    autofree char *target = str_fmt("%s/target", dir), *print = NULL;
    autojson manifest = NULL;

    assert_ok(bundle_verify(file, public_key, &manifest));
    assert_string_equal(json_string_value(json_object_get(manifest, "name")), "x");
    assert_ok(unpack(file));
    print = scratch_fingerprint(target);
    assert_non_null(strstr(print, "/files/bin 40755 0:0\n"));
    assert_non_null(strstr(print, "/files/bin/tool 100755 0:0 [program]"));
    assert_non_null(strstr(print, "/files/deep/er/file 100644 0:0 [x]"));
    assert_non_null(strstr(print, "/files/bin/other 120777 0:0 -> tool"));
    assert_non_null(strstr(print, "/manifest.json 100644 0:0"));
}

static void test_signature(UNUSED void **state)
{
    twist_is(&(struct twist){.wrong_key = true}, ERR_FORBIDDEN);
    twist_is(&(struct twist){.manifest_changed = true}, ERR_FORBIDDEN);
    twist_is(&(struct twist){.wrong_sum = true}, ERR_FORBIDDEN);
    twist_is(&(struct twist){.wrong_size = true}, ERR_INVALID);
    twist_is(&(struct twist){.no_signature = true}, ERR_INVALID);
}

/* Refused, and by name. */
static void twist_says(const struct twist *t, const char *reason, const char *text)
{
    autofree char *file = make_bundle(NULL, 0, t);
    struct err *e = unpack(file);

    if (!e || !strstr(err_message(e), text) || (reason && !str_eq(e->reason, reason)))
        fail_msg("%s %s: %s", reason, text, err_message(e));
    assert_non_null(strstr(err_message(e), text));
    if (reason)
        assert_string_equal(e->reason, reason);
    err_free(e);
}

#define SERVICE(more) "{\"slug\":\"a\",\"protocol\":\"http\",\"unit\":\"hoody-x.service\"," more "}"
#define SERVICES(list)                                                                                                 \
    &(struct twist)                                                                                                    \
    {                                                                                                                  \
        .manifest_key = "services", .manifest_value = "[" list "]"                                                     \
    }

static void test_named(UNUSED void **state)
{
    twist_says(&(struct twist){.wrong_key = true}, "KIT_SIGNATURE", "manifest.sig");
    twist_says(&(struct twist){.wrong_key = true, .named_key = true}, "KIT_KEY_UNKNOWN", "manifest.sig");
    twist_says(&(struct twist){.manifest_changed = true, .named_key = true}, "KIT_SIGNATURE", "manifest.sig");
    twist_says(&(struct twist){.wrong_sum = true, .named_key = true}, "KIT_DIGEST", "payload.sha256");
    twist_says(&(struct twist){.wrong_size = true}, "KIT_DIGEST", "payload.size");
    twist_says(&(struct twist){.manifest_key = "directories", .manifest_value = "[\"ok\", \"a/../../b\"]"}, "KIT_PATH",
               "kit x 1: directories: 'a/../../b'");
    twist_says(&(struct twist){.manifest_key = "directories", .manifest_value = "[\"/etc\"]"}, "KIT_PATH", "'/etc'");
    twist_says(&(struct twist){.manifest_key = "units", .manifest_value = "[\"../hoody-x.service\"]"}, NULL, "units");
    twist_says(&(struct twist){.manifest_key = "minimum_image", .manifest_value = "\"../13\""}, NULL,
               "manifest.minimum_image");
    twist_says(SERVICES(SERVICE("\"port\":80") "," SERVICE("\"port\":90")), "KIT_CLASH", "services.slug");
    twist_says(SERVICES(SERVICE("\"port\":80,\"port_last\":90") ",{\"slug\":\"b\",\"protocol\":\"http\",\"unit\":"
                                                                "\"hoody-x.service\",\"port\":85}"),
               "KIT_CLASH", "services.port: 85 of 'a' is a port of 'b'");
    twist_says(SERVICES(SERVICE("\"port\":80,\"port_last\":79")), NULL, "services.port_last");
    twist_says(SERVICES(SERVICE("\"port\":80,\"port_last\":9000")), NULL, "services.port_last");
    twist_says(SERVICES(SERVICE("\"port\":80,\"capabilities\":[\"CAP_SYS_MODULE\"]")), NULL, "CAP_SYS_MODULE");
    twist_says(SERVICES(SERVICE("\"port\":80,\"after\":[\"ssh.service\"]")), NULL, "services.after");
    twist_says(SERVICES(SERVICE("\"port\":80,\"environment\":{\"A\":\"x\\ny\"}")), NULL, "services.environment");
    twist_says(SERVICES(SERVICE("\"port\":80,\"user\":\"root\"")), NULL, "services.user: is 'root', but");
}

static void test_dropin(UNUSED void **state)
{
    const struct twist t = {.manifest_key = "services",
                            .manifest_value = "[" SERVICE(
                                "\"port\":80,\"user\":\"user\",\"environment\":{\"A\":\"50% \\\"x\\\"\"},"
                                "\"capabilities\":[\"CAP_NET_BIND_SERVICE\"],\"after\":[\"hoody-y.service\"]") "]"};
    autofree char *file = make_bundle(NULL, 0, &t), *path = NULL, *text = NULL;

    assert_ok(unpack(file));
    path = str_fmt("%s/target/files/units/hoody-x.service.d/" MANIFEST_DROPIN, dir);
    assert_ok(fd_read_file(path, 4096, &text, NULL));
    assert_non_null(strstr(text, "[Unit]\nAfter=hoody-y.service\n[Service]\nEnvironment=\"A=50%% \\\"x\\\"\"\n"
                                 "CapabilityBoundingSet=CAP_NET_BIND_SERVICE\n"
                                 "AmbientCapabilities=CAP_NET_BIND_SERVICE\n"));
}

static void test_shape(UNUSED void **state)
{
    autofree char *file = make_bundle(NULL, 0, &(struct twist){0});
    autofree char *absent = str_fmt("%s/absent.kit", dir), *text = str_fmt("%s/text.kit", dir);
    autojson manifest = NULL;

    twist_is(&(struct twist){.swapped = true}, ERR_INVALID);
    twist_is(&(struct twist){.extra = true}, ERR_INVALID);
    twist_is(&(struct twist){.cut_off = true}, ERR_INVALID);
    twist_is(&(struct twist){.manifest_key = "name", .manifest_value = "\"../x\""}, ERR_INVALID);
    twist_is(&(struct twist){.manifest_key = "units", .manifest_value = "[\"hoody-absent.service\"]"}, ERR_INVALID);
    twist_is(&(struct twist){.manifest_key = "format", .manifest_value = "2"}, ERR_INVALID);
    assert_err(bundle_verify(absent, public_key, &manifest), ERR_NOT_FOUND);
    scratch_write(dir, "text.kit", "no archive at all");
    assert_err(bundle_verify(text, public_key, &manifest), ERR_INVALID);
    assert_err(bundle_verify(dir, public_key, &manifest), ERR_INVALID);
    assert_err(bundle_verify(file, text, &manifest), ERR_INVALID);
}

static void test_entries(UNUSED void **state)
{
    static const struct entry bad[] = {
        {.path = "../outside", .data = "x"},
        {.path = "a/../../outside", .data = "x"},
        {.path = "/absolute", .data = "x"},
        {.path = "a/..", .type = AE_IFDIR},
        {.path = "units/hoody-x.service", .data = "twice"},
        {.path = "units/hoody-x.service/below", .data = "x"},
        {.path = "link", .link = "/etc/passwd", .type = AE_IFLNK},
        {.path = "link", .link = "../x", .type = AE_IFLNK},
        {.path = "a/link", .link = "../../x", .type = AE_IFLNK},
        {.path = "link", .link = "a/../../x", .type = AE_IFLNK},
        {.path = "hard", .link = "units/hoody-x.service", .hard = true},
        {.path = "hard", .link = "/etc/passwd", .hard = true},
        {.path = "device", .type = AE_IFCHR},
        {.path = "device", .type = AE_IFBLK},
        {.path = "pipe", .type = AE_IFIFO},
        {.path = "setuid", .data = "x", .mode = 04755},
        {.path = "setgid", .data = "x", .mode = 02755},
        {.path = ".", .data = "x"},
    };

    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        entry_is(&bad[i], ERR_INVALID);
}

static void test_through_link(UNUSED void **state)
{
    autofree char *outside = str_fmt("%s/outside", dir), *inside = NULL;
    const struct entry entries[] = {
        {.path = "real", .type = AE_IFDIR, .mode = 0755},
        {.path = "link", .link = "real", .type = AE_IFLNK},
        {.path = "link/file", .data = "x"},
    };
    autofree char *file = make_bundle(entries, 3, &(struct twist){0});

    assert_err(unpack(file), ERR_INVALID);
    inside = str_fmt("%s/target/files/real/file", dir);
    assert_int_equal(access(inside, F_OK), -1);
    assert_int_equal(access(outside, F_OK), -1);
}

static void limits_are(int64_t entries, int64_t bytes, enum err_code wanted)
{
    const struct unpack_rules rules = {.max_entries = entries, .max_bytes = bytes};
    const struct entry files[] = {{.path = "a", .data = "0123456789"}, {.path = "b", .data = "0123456789"}};
    autofree char *payload = mem_alloc(PAYLOAD_MAX, 1), *target = str_fmt("%s/limits", dir);
    size_t size = make_payload(files, 2, true, payload);
    struct archive *a = archive_read_new();
    autofd int fd = -1;

    scratch_remove(target);
    assert_int_equal(mkdir(target, 0755), 0);
    fd = open(target, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    archive_read_support_format_tar(a);
    archive_read_support_filter_zstd(a);
    assert_int_equal(archive_read_open_memory(a, payload, size), ARCHIVE_OK);
    assert_err(unpack_archive(a, fd, &rules, NULL), wanted);
    archive_read_free(a);
}

static void test_limits(UNUSED void **state)
{
    limits_are(2, 1000, ERR_TOO_LARGE);
    limits_are(10, 45, ERR_TOO_LARGE);
}

static void test_paths(UNUSED void **state)
{
    char path[UNPACK_PATH_SIZE], deep[300] = "";

    assert_ok(unpack_path("./a//b/./c/", path));
    assert_string_equal(path, "a/b/c");
    assert_ok(unpack_path("./", path));
    assert_string_equal(path, "");
    assert_err(unpack_path(NULL, path), ERR_INVALID);
    for (int i = 0; i < 100; i++)
        strcat(deep, "a/");
    assert_err(unpack_path(deep, path), ERR_INVALID);
    assert_true(unpack_link_inside("a/b", "../c"));
    assert_true(unpack_link_inside("a", "./b/../c"));
    assert_false(unpack_link_inside("a", ".."));
    assert_false(unpack_link_inside("a/b", "../../c"));
    assert_false(unpack_link_inside("a", "b/../../a/x"));
    assert_false(unpack_link_inside("a", ""));
}

static int set_up(UNUSED void **state)
{
    BIO *bio;

    dir = scratch_new();
    public_key = str_fmt("%s/key.pub", dir);
    key = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
    other_key = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
    bio = BIO_new_file(public_key, "w");
    PEM_write_bio_PUBKEY(bio, key);
    BIO_free(bio);
    return key && other_key ? 0 : -1;
}

static int tear_down(UNUSED void **state)
{
    scratch_remove(dir);
    EVP_PKEY_free(key);
    EVP_PKEY_free(other_key);
    free(dir);
    free(public_key);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good),    cmocka_unit_test(test_signature),    cmocka_unit_test(test_shape),
        cmocka_unit_test(test_entries), cmocka_unit_test(test_through_link), cmocka_unit_test(test_limits),
        cmocka_unit_test(test_paths),   cmocka_unit_test(test_named),        cmocka_unit_test(test_dropin),

    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
