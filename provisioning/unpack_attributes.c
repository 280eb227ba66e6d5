/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names of extended attributes as they were. Of each attribute two records come, "a b" and "a%20b"; an attribute that
 * is called "a%20b" comes as "a%20b" and "a%2520b". So from the shortest name on, each name takes away one record that
 * has its encoded form and its value: an encoded name is always longer, and what it belongs to is looked at before it.
 * A name that needs no encoding comes twice as it is.
 */
#include <archive.h>
#include <archive_entry.h>
#include <stdlib.h>

#include "base/mem.h"
#include "base/str.h"
#include "provisioning/unpack_internal.h"

#define RECORDS_MAX 20000

struct record {
    char *name;
    void *value;
    size_t name_len, len;
    bool gone;
};

static bool is_plain(unsigned char c)
{
    return c > 32 && c < 127 && c != '%' && c != '=';
}

/* As libarchive's writer does it; NULL: the name stays as it is. The caller's to free. */
static char *encoded(const char *name)
{
    static const char digits[] = "0123456789ABCDEF";
    size_t len = 0, more = 0;
    char *ret, *to;

    for (; name[len]; len++)
        more += is_plain((unsigned char)name[len]) ? 0 : 2;
    if (!more)
        return NULL;
    ret = to = mem_alloc(1, len + more + 1);
    for (; *name; name++) {
        unsigned char c = (unsigned char)*name;

        if (is_plain(c)) {
            *to++ = (char)c;
        } else {
            *to++ = '%';
            *to++ = digits[c >> 4];
            *to++ = digits[c & 15];
        }
    }
    *to = '\0';
    return ret;
}

static int by_length(const void *x, const void *y)
{
    size_t a = ((const struct record *)x)->name_len, b = ((const struct record *)y)->name_len;

    return a < b ? -1 : a > b;
}

static void drop_encoded(struct record *all, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        autofree char *other = all[i].gone ? NULL : encoded(all[i].name);
        size_t len = other ? strlen(other) : 0;

        for (size_t k = i + 1; other && k < count && all[k].name_len <= len; k++) {
            struct record *r = &all[k];

            if (r->gone || r->name_len != len || r->len != all[i].len || strcmp(r->name, other) != 0 ||
                (r->len && memcmp(r->value, all[i].value, r->len) != 0))
                continue;
            r->gone = true;
            break;
        }
    }
}

static bool needs_care(struct archive_entry *entry)
{
    const char *name;
    const void *value;
    size_t len;
    bool found = false;

    archive_entry_xattr_reset(entry);
    while (archive_entry_xattr_next(entry, &name, &value, &len) == ARCHIVE_OK)
        for (; *name && !found; name++)
            found = !is_plain((unsigned char)*name);
    return found;
}

struct err *unpack_attributes(struct archive_entry *entry)
{
    int count = archive_entry_xattr_count(entry);
    struct record *all;
    size_t n = 0;

    if (count > RECORDS_MAX)
        return err_new(ERR_TOO_LARGE, "it has more than %d attributes", RECORDS_MAX / 2);
    if (count <= 0 || !needs_care(entry))
        return NULL;
    all = mem_new_array(struct record, (size_t)count);
    archive_entry_xattr_reset(entry);
    while (n < (size_t)count) {
        const char *name;
        const void *value;
        struct record *r = &all[n];

        if (archive_entry_xattr_next(entry, &name, &value, &r->len) != ARCHIVE_OK)
            break;
        r->name = str_dup(name);
        r->name_len = strlen(name);
        r->value = mem_alloc(1, r->len + 1);
        if (r->len)
            memcpy(r->value, value, r->len);
        n++;
    }
    qsort(all, n, sizeof(*all), by_length);
    drop_encoded(all, n);
    archive_entry_xattr_clear(entry);
    for (size_t i = 0; i < n; i++) {
        if (!all[i].gone)
            archive_entry_xattr_add_entry(entry, all[i].name, all[i].value, all[i].len);
        free(all[i].name);
        free(all[i].value);
    }
    free(all);
    return NULL;
}
