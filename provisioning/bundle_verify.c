/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The file is read twice: once to check signature and digest, once to unpack. The second reading is digested again
 * while libarchive takes it, so that a file changed in between is found before anything of it is installed.
 */
#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "base/str.h"
#include "provisioning/bundle.h"
#include "provisioning/confined.h"
#include "provisioning/unpack.h"

#define MANIFEST_MAX (256 * 1024)
#define SIGNATURE_MAX 96
#define BLOCK 65536

static const struct unpack_rules kit_rules = {.max_entries = 20000, .max_bytes = 1024LL * 1024 * 1024};

/* A bundle being read. `outer` is the tar, `digest` runs over the payload's bytes. */
struct reader {
    int fd;
    struct archive *outer;
    EVP_MD_CTX *digest;
    int64_t payload_seen;
    char block[BLOCK];
};

static void reader_done(struct reader *r)
{
    archive_read_free(r->outer);
    EVP_MD_CTX_free(r->digest);
    r->outer = NULL;
    r->digest = NULL;
}

static struct err *open_file(const char *file, int *ret_fd)
{
    autofd int fd = open(file, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    struct stat st;

    if (fd < 0)
        return err_recode(err_errno(errno, "bundle '%s'", file), errno == ENOENT ? ERR_NOT_FOUND : ERR_HOST);
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
        return err_new(ERR_INVALID, "bundle '%s' is no regular file", file);
    if (st.st_size > BUNDLE_PAYLOAD_MAX + 4 * MANIFEST_MAX)
        return err_new(ERR_TOO_LARGE, "bundle '%s' is too large", file);
    *ret_fd = fd_steal(&fd);
    return NULL;
}

static struct err *bad(const char *text)
{
    return err_new(ERR_INVALID, "the bundle %s", text);
}

/* The next entry must be a plain file of this name and within this size. */
static struct err *expect_entry(struct reader *r, const char *name, int64_t max, int64_t *ret_size)
{
    struct archive_entry *entry;

    if (archive_read_next_header(r->outer, &entry) != ARCHIVE_OK)
        return bad("is damaged or cut off");
    if (!str_eq(archive_entry_pathname(entry), name) || archive_entry_filetype(entry) != AE_IFREG ||
        archive_entry_hardlink(entry))
        return err_new(ERR_INVALID, "the bundle has something else in the place of %s", name);
    if (archive_entry_size(entry) <= 0 || archive_entry_size(entry) > max)
        return err_new(ERR_TOO_LARGE, "%s of the bundle is empty or larger than %lld bytes", name, (long long)max);
    *ret_size = archive_entry_size(entry);
    return NULL;
}

static struct err *read_entry(struct reader *r, const char *name, int64_t max, char **ret, size_t *ret_len)
{
    int64_t size = 0;
    struct err *e = expect_entry(r, name, max, &size);
    autofree char *text = NULL;

    if (e)
        return e;
    text = mem_alloc((size_t)size + 1, 1);
    for (int64_t have = 0; have < size;) {
        la_ssize_t n = archive_read_data(r->outer, text + have, (size_t)(size - have));

        if (n <= 0)
            return bad("is damaged or cut off");
        have += n;
    }
    *ret_len = (size_t)size;
    *ret = steal(&text);
    return NULL;
}

static struct err *reader_open(struct reader *r, int fd)
{
    *r = (struct reader){.fd = fd, .outer = archive_read_new(), .digest = EVP_MD_CTX_new()};
    if (!r->outer || !r->digest || EVP_DigestInit_ex(r->digest, EVP_sha256(), NULL) != 1)
        abort();
    archive_read_support_format_tar(r->outer);
    if (lseek(fd, 0, SEEK_SET) < 0)
        return err_errno(errno, "bundle");
    if (archive_read_open_fd(r->outer, fd, BLOCK) != ARCHIVE_OK)
        return bad("is no tar archive");
    return NULL;
}

/* libarchive's read callback for the payload. */
static la_ssize_t read_payload(struct archive *inner, void *owner, const void **ret)
{
    struct reader *r = owner;
    la_ssize_t n = archive_read_data(r->outer, r->block, sizeof(r->block));

    if (n < 0) {
        archive_set_error(inner, EIO, "damaged or cut off");
        return -1;
    }
    if (n > 0 && EVP_DigestUpdate(r->digest, r->block, (size_t)n) != 1)
        abort();
    r->payload_seen += n;
    *ret = r->block;
    return n;
}

/* Takes the rest of the payload and compares. */
static struct err *finish_payload(struct reader *r, const struct manifest *m)
{
    unsigned char sum[EVP_MAX_MD_SIZE];
    unsigned int len = 0;
    char hex[2 * EVP_MAX_MD_SIZE + 1] = "";
    struct archive_entry *entry;
    la_ssize_t n;

    while ((n = archive_read_data(r->outer, r->block, sizeof(r->block))) > 0) {
        r->payload_seen += n;
        if (EVP_DigestUpdate(r->digest, r->block, (size_t)n) != 1)
            abort();
    }
    if (n < 0)
        return bad("is damaged or cut off");
    if (EVP_DigestFinal_ex(r->digest, sum, &len) != 1)
        abort();
    str_hex(sum, len, hex);
    if (r->payload_seen != json_integer_value(json_object_get(m->payload, "size")) ||
        !str_eq(hex, json_string_value(json_object_get(m->payload, "sha256"))))
        return err_reason(err_new(ERR_FORBIDDEN,
                                  "payload.tar.zst: it is not the one that was signed: payload.sha256 is %s",
                                  json_string_value(json_object_get(m->payload, "sha256"))),
                          "KIT_DIGEST");
    if (archive_read_next_header(r->outer, &entry) != ARCHIVE_EOF)
        return bad("has more entries than it may");
    return NULL;
}

/* Reads and checks manifest and signature; the reader then stands at the payload's data. */
static struct err *read_head(struct reader *r, const char *public_key, char **ret_text, size_t *ret_len,
                             json_t **ret_manifest, struct manifest *ret_m)
{
    autofree char *text = NULL, *sig = NULL;
    size_t len = 0, sig_len = 0;
    autojson j = NULL;
    int64_t size = 0;
    struct err *e = read_entry(r, "manifest.json", MANIFEST_MAX, &text, &len);

    if (!e)
        e = read_entry(r, "manifest.sig", SIGNATURE_MAX, &sig, &sig_len);
    if (!e)
        e = bundle_check_signature(public_key, text, len, sig, sig_len);
    if (!e)
        e = json_parse(text, len, "manifest", &j);
    if (!e)
        e = manifest_load(j, ret_m);
    if (e)
        return e;
    e = err_wrap(manifest_check_shared_units(ret_m), "kit %s %s", ret_m->name, ret_m->version);
    if (!e)
        e = expect_entry(r, "payload.tar.zst", BUNDLE_PAYLOAD_MAX, &size);
    if (!e && size != json_integer_value(json_object_get(ret_m->payload, "size")))
        e = err_reason(err_field("payload.size", "payload.tar.zst has another one"), "KIT_DIGEST");
    if (e) {
        json_table_clear(&manifest_table, ret_m);
        return e;
    }
    if (ret_text) {
        *ret_text = steal(&text);
        *ret_len = len;
    }
    *ret_manifest = steal(&j);
    return NULL;
}

static struct err *unpack_payload(struct reader *r, int dir_fd)
{
    struct archive *inner = archive_read_new();
    autofd int files = -1;
    struct err *e = NULL;

    if (!inner)
        abort();
    archive_read_support_format_tar(inner);
    archive_read_support_filter_zstd(inner);
    if (mkdirat(dir_fd, "files", 0755) < 0 ||
        (files = openat(dir_fd, "files", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)) < 0)
        e = err_errno(errno, "directory for the kit's files");
    else if (archive_read_open(inner, r, NULL, read_payload, NULL) != ARCHIVE_OK)
        e = bad("has a payload that is no tar archive");
    else
        e = err_wrap(err_reason(unpack_archive(inner, files, &kit_rules, NULL), "KIT_PAYLOAD"), "payload.tar.zst");
    archive_read_free(inner);
    return e;
}

static struct err *verify(int fd, const char *public_key, json_t **ret_manifest)
{
    autojson j = NULL;
    struct reader r = {0};
    struct manifest m = {0};
    struct err *e = reader_open(&r, fd);

    if (!e)
        e = read_head(&r, public_key, NULL, NULL, &j, &m);
    if (!e)
        e = finish_payload(&r, &m);
    json_table_clear(&manifest_table, &m);
    reader_done(&r);
    if (!e)
        *ret_manifest = steal(&j);
    return e;
}

struct err *bundle_verify(const char *file, const char *public_key, json_t **ret_manifest)
{
    autofd int fd = -1;
    struct err *e = open_file(file, &fd);

    if (!e)
        e = verify(fd, public_key, ret_manifest);
    return err_wrap(e, "'%s'", file);
}

/* Every unit the manifest names must be there as a plain file. */
static struct err *check_units_present(int dir_fd, const struct manifest *m)
{
    const json_t *unit;
    size_t i;

    json_array_foreach(m->units, i, unit)
    {
        autofree char *path = str_fmt("files/units/%s", json_string_value(unit));
        struct stat st;

        if (fstatat(dir_fd, path, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(st.st_mode))
            return err_field("units", "the payload has no file units/%s", json_string_value(unit));
    }
    return NULL;
}

/* What the manifest says of its services becomes a part of the kit's files. */
static struct err *write_dropins(int dir_fd, const struct manifest *m)
{
    const struct confined_owner owner = {geteuid(), getegid()};
    struct err *e = NULL;
    const json_t *j;
    size_t i;

    json_array_foreach(m->services, i, j)
    {
        struct manifest_service s = {0};
        autofree char *text = NULL, *dir = NULL, *path = NULL;

        if (!e)
            e = manifest_service_load(j, m, &s);
        if (e)
            break;
        text = manifest_render_dropin(&s);
        dir = str_fmt("files/units/%s.d", s.unit);
        path = str_fmt("%s/" MANIFEST_DROPIN, dir);
        if (text)
            e = confined_mkdirs(dir_fd, dir, 0755, owner);
        if (!e && text)
            e = confined_write(dir_fd, path, text, strlen(text), 0644, owner);
        json_table_clear(&manifest_service_table, &s);
    }
    return e;
}

struct err *bundle_unpack(const char *file, const char *public_key, int dir_fd, json_t **ret_manifest)
{
    const struct confined_owner owner = {geteuid(), getegid()}; /* a kit may be looked at by anybody */
    autofree char *text = NULL;
    autofd int fd = -1;
    autojson verified = NULL;
    autojson j = NULL;
    struct reader r = {0};
    struct manifest m = {0};
    size_t len = 0;
    struct err *e = open_file(file, &fd);

    if (!e)
        e = verify(fd, public_key, &verified);
    if (!e)
        e = reader_open(&r, fd);
    if (!e)
        e = read_head(&r, public_key, &text, &len, &j, &m);
    if (!e)
        e = unpack_payload(&r, dir_fd);
    if (!e)
        e = finish_payload(&r, &m);
    if (!e)
        e = check_units_present(dir_fd, &m);
    if (!e)
        e = manifest_check_users(&m, dir_fd, "files/units");
    if (!e)
        e = write_dropins(dir_fd, &m);
    if (!e)
        e = confined_write(dir_fd, "manifest.json", text, len, 0644, owner);
    json_table_clear(&manifest_table, &m);
    reader_done(&r);
    if (e)
        return err_wrap(e, "'%s'", file);
    *ret_manifest = steal(&j);
    return NULL;
}
