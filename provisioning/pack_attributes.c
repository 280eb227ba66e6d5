/* SPDX-License-Identifier: Apache-2.0 */
#include "provisioning/pack_attributes.h"

#include <archive_entry.h>
#include <errno.h>
#include <linux/limits.h>
#include <sys/xattr.h>

#include "base/mem.h"
#include "provisioning/tree_digest.h"

/* Names and values of one file: the reader takes a header of 1 MiB, and an attribute is there twice, with a name of
 * which each byte may take three, and once in base64. RECORD_BYTES: about what else its records take. */
#define ATTRIBUTES_MAX 393216
#define RECORD_BYTES 40

struct err *pack_attributes(int fd, const char *path, struct archive_entry *entry)
{
    ssize_t n = flistxattr(fd, NULL, 0);
    autofree char *names = NULL, *value = NULL;
    size_t total = 0;

    if (n == 0 || (n < 0 && errno == ENOTSUP))
        return NULL;
    names = mem_alloc(XATTR_LIST_MAX, 1);
    value = entry ? mem_alloc(XATTR_SIZE_MAX, 1) : NULL;
    n = n < 0 ? n : flistxattr(fd, names, XATTR_LIST_MAX);
    if (n < 0)
        return err_errno(errno, "cannot list the attributes of '%s'", path);
    for (const char *name = names; name < names + n; name += strlen(name) + 1) {
        ssize_t len = tree_keeps_attribute(name) ? fgetxattr(fd, name, value, entry ? XATTR_SIZE_MAX : 0) : -1;

        if (len < 0)
            continue;
        total += (size_t)len + 3 * strlen(name) + RECORD_BYTES;
        if (entry)
            archive_entry_xattr_add_entry(entry, name, value, (size_t)len);
    }
    if (total > ATTRIBUTES_MAX)
        return err_new(
            ERR_HOST,
            "'%s' has more than %d bytes of attributes: a tar archive cannot hold it, the format 'stream' can", path,
            ATTRIBUTES_MAX);
    return NULL;
}
