/* SPDX-License-Identifier: Apache-2.0 */
#include "provisioning/tree_digest.h"

#include <archive_entry.h>
#include <openssl/evp.h>
#include <stdio.h>

#include "base/str.h"

struct tree_digest {
    EVP_MD_CTX *context;
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
    free(d);
}

void tree_digest_data(struct tree_digest *d, const void *data, size_t len)
{
    if (EVP_DigestUpdate(d->context, data, len) != 1)
        abort();
}

void tree_digest_entry(struct tree_digest *d, const char *path, struct archive_entry *entry)
{
    const char *link = archive_entry_hardlink(entry) ? archive_entry_hardlink(entry) : archive_entry_symlink(entry);
    bool has_size = archive_entry_filetype(entry) == AE_IFREG && !archive_entry_hardlink(entry);
    autofree char *numbers =
        str_fmt("%o %lld:%lld %lld %lld", (unsigned)archive_entry_mode(entry), (long long)archive_entry_uid(entry),
                (long long)archive_entry_gid(entry), (long long)archive_entry_mtime(entry),
                has_size ? (long long)archive_entry_size(entry) : 0LL);
    const char *const parts[] = {path, numbers, link ? link : ""};

    /* With its NUL each: no two entries make the same bytes. */
    for (size_t i = 0; i < ARRAY_LEN(parts); i++)
        tree_digest_data(d, parts[i], strlen(parts[i]) + 1);
}

void tree_digest_get(struct tree_digest *d, char ret[TREE_DIGEST_SIZE])
{
    unsigned char bytes[EVP_MAX_MD_SIZE];
    EVP_MD_CTX *copy = EVP_MD_CTX_new();
    unsigned len = 0;

    if (!copy || EVP_MD_CTX_copy_ex(copy, d->context) != 1 || EVP_DigestFinal_ex(copy, bytes, &len) != 1)
        abort();
    EVP_MD_CTX_free(copy);
    for (unsigned i = 0; i < len; i++)
        snprintf(ret + (size_t)2 * i, 3, "%02x", bytes[i]);
}
