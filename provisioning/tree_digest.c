/* SPDX-License-Identifier: Apache-2.0 */
#include "provisioning/tree_digest.h"

#include <archive.h>
#include <archive_entry.h>
#include <openssl/evp.h>
#include <stdio.h>

#include "base/str.h"

struct tree_digest {
    EVP_MD_CTX *context;
    EVP_MD_CTX *holes; /* of the entry; NULL: it has none so far */
};

struct tree_digest *tree_digest_new(void)
{
    struct tree_digest *d = mem_new(struct tree_digest);

    d->context = EVP_MD_CTX_new();
    if (!d->context || EVP_DigestInit_ex(d->context, EVP_sha256(), NULL) != 1)
        abort();
    return d;
}

void tree_digest_free(struct tree_digest *d)
{
    if (!d)
        return;
    EVP_MD_CTX_free(d->context);
    EVP_MD_CTX_free(d->holes);
    free(d);
}

void tree_digest_data(struct tree_digest *d, const void *data, size_t len)
{
    if (EVP_DigestUpdate(d->context, data, len) != 1)
        abort();
}

void tree_digest_hole(struct tree_digest *d, int64_t at, int64_t len)
{
    autofree char *text = str_fmt("%lld+%lld", (long long)at, (long long)len);

    if (!d->holes) {
        d->holes = EVP_MD_CTX_new();
        if (!d->holes || EVP_DigestInit_ex(d->holes, EVP_sha256(), NULL) != 1)
            abort();
    }
    if (EVP_DigestUpdate(d->holes, text, strlen(text) + 1) != 1)
        abort();
}

/* Where the holes of an entry are comes behind its data: how the data was cut into pieces does not matter then. */
static void end_entry(struct tree_digest *d)
{
    unsigned char bytes[EVP_MAX_MD_SIZE];
    unsigned len = 0;

    if (!d->holes)
        return;
    if (EVP_DigestFinal_ex(d->holes, bytes, &len) != 1)
        abort();
    tree_digest_data(d, "holes", sizeof("holes"));
    tree_digest_data(d, bytes, len);
    EVP_MD_CTX_free(steal(&d->holes));
}

struct attribute {
    const char *name;
    const void *value;
    size_t len;
};

static int by_name(const void *x, const void *y)
{
    return strcmp(((const struct attribute *)x)->name, ((const struct attribute *)y)->name);
}

/* Those that a file keeps, in the order of their names: archives have them in any. */
static void add_attributes(struct tree_digest *d, struct archive_entry *entry)
{
    int count = archive_entry_xattr_reset(entry);
    autofree struct attribute *all = mem_new_array(struct attribute, (size_t)MAX(count, 1));
    size_t n = 0;

    while ((int)n < count && archive_entry_xattr_next(entry, &all[n].name, &all[n].value, &all[n].len) == ARCHIVE_OK)
        n += tree_keeps_attribute(all[n].name);
    qsort(all, n, sizeof(*all), by_name);
    for (size_t i = 0; i < n; i++) {
        /* libarchive writes each one in two forms, and reads it twice. */
        if (i > 0 && strcmp(all[i - 1].name, all[i].name) == 0)
            continue;
        tree_digest_data(d, all[i].name, strlen(all[i].name) + 1);
        tree_digest_data(d, &all[i].len, sizeof(all[i].len));
        tree_digest_data(d, all[i].value, all[i].len);
    }
}

static char kind_of(struct archive_entry *entry)
{
    mode_t type = archive_entry_filetype(entry);

    if (archive_entry_hardlink(entry))
        return 'h';
    return type == AE_IFREG ? 'f' : type == AE_IFDIR ? 'd' : type == AE_IFLNK ? 'l' : type == AE_IFIFO ? 'p' : 'o';
}

void tree_digest_entry(struct tree_digest *d, const char *path, struct archive_entry *entry)
{
    const char *link = archive_entry_hardlink(entry) ? archive_entry_hardlink(entry) : archive_entry_symlink(entry);
    char kind = kind_of(entry);
    autofree char *numbers =
        str_fmt("%c %o %lld:%lld %lld %lld", kind, (unsigned)archive_entry_perm(entry),
                (long long)archive_entry_uid(entry), (long long)archive_entry_gid(entry),
                (long long)archive_entry_mtime(entry), kind == 'f' ? (long long)archive_entry_size(entry) : 0LL);
    const char *const parts[] = {path, numbers, link ? link : ""};

    end_entry(d);
    /* With its NUL each: no two entries make the same bytes. */
    for (size_t i = 0; i < ARRAY_LEN(parts); i++)
        tree_digest_data(d, parts[i], strlen(parts[i]) + 1);
    if (kind == 'f' || kind == 'd')
        add_attributes(d, entry);
}

bool tree_keeps_attribute(const char *name)
{
    return strcmp(name, "security.capability") == 0 || strncmp(name, "user.", 5) == 0 ||
           strncmp(name, "system.posix_acl_", 17) == 0;
}

void tree_digest_get(struct tree_digest *d, char ret[TREE_DIGEST_SIZE])
{
    unsigned char bytes[EVP_MAX_MD_SIZE];
    EVP_MD_CTX *copy = EVP_MD_CTX_new();
    unsigned len = 0;

    end_entry(d);
    if (!copy || EVP_MD_CTX_copy_ex(copy, d->context) != 1 || EVP_DigestFinal_ex(copy, bytes, &len) != 1)
        abort();
    EVP_MD_CTX_free(copy);
    str_hex(bytes, len, ret);
}
