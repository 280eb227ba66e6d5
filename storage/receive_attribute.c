/* SPDX-License-Identifier: Apache-2.0 */
#include "storage/receive_attribute.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/xattr.h>

#include "base/mem.h"
#include "base/str.h"
#include "storage/attribute.h"
#include "storage/receive_place.h"

#define VALUE_MAX 65536
#define OWN_XATTRS "trusted.noded."

struct fate_of {
    const char *name;
    bool prefix;
    enum receive_fate fate;
};

enum receive_fate receive_fate_of(const char *name)
{
    static const struct fate_of table[] = {
        {"user.", true, RECEIVE_APPLIED},
        {"system.posix_acl_", true, RECEIVE_APPLIED},
        {"security.capability", false, RECEIVE_APPLIED},
        /* chattr +c, or the property: how the disk holds the content. The program inside that set it needs no right for
         * that, so a stream may have any value of it; what this kernel does not take is left out. */
        {"btrfs.compression", false, RECEIVE_WISHED},
        {OWN_XATTRS, true, RECEIVE_DROPPED}, /* what a node notes on a subvolume of its own */
        /* Labels and hashes that a host's own security module gave the files: they mean nothing to this host's. */
        {"security.selinux", false, RECEIVE_DROPPED},
        {"security.SMACK64", true, RECEIVE_DROPPED},
        {"security.apparmor", false, RECEIVE_DROPPED},
        {"security.ima", false, RECEIVE_DROPPED},
        {"security.evm", false, RECEIVE_DROPPED},
    };

    for (size_t i = 0; i < ARRAY_LEN(table); i++)
        if (table[i].prefix ? strncmp(name, table[i].name, strlen(table[i].name)) == 0 : str_eq(name, table[i].name))
            return table[i].fate;
    return RECEIVE_REFUSED;
}

static const char *const inherited[RECEIVE_INHERITED_MAX] = {"system.posix_acl_default", "btrfs.compression"};

struct err *receive_inherited_take(int root, struct receive_inherited *r)
{
    for (size_t i = 0; i < RECEIVE_INHERITED_MAX; i++) {
        char *value = mem_alloc(1, VALUE_MAX);
        ssize_t len = fgetxattr(root, inherited[i], value, VALUE_MAX);

        if (len < 0 || fremovexattr(root, inherited[i]) < 0) {
            free(value);
            if (errno != ENODATA && errno != ENOTSUP)
                return receive_failed("take an attribute off", ".");
            continue;
        }
        r->all[i].value = value;
        r->all[i].len = (size_t)len;
    }
    return NULL;
}

bool receive_inherited_put(struct receive_inherited *r, const char *name, bool set, const void *value, size_t len)
{
    for (size_t i = 0; i < RECEIVE_INHERITED_MAX; i++) {
        if (!str_eq(name, inherited[i]))
            continue;
        free(r->all[i].value);
        r->all[i].value = NULL;
        if (set) {
            r->all[i].value = mem_alloc(1, len + 1);
            r->all[i].len = len;
            if (len)
                memcpy(r->all[i].value, value, len);
        }
        return true;
    }
    return false;
}

struct err *receive_inherited_give(int root, const struct receive_inherited *r)
{
    for (size_t i = 0; i < RECEIVE_INHERITED_MAX; i++) {
        bool wished = receive_fate_of(inherited[i]) == RECEIVE_WISHED;
        struct err *e;

        if (!r->all[i].value || fsetxattr(root, inherited[i], r->all[i].value, r->all[i].len, 0) == 0)
            continue;
        e = errno == ENOSPC ? attribute_check_size(root, ".", inherited[i], r->all[i].len) : NULL;
        if (e && !wished)
            return e;
        if (!e && (!wished || errno == ENOSPC || errno == EDQUOT || errno == EIO))
            return receive_failed("set an attribute of", ".");
        err_free(e);
    }
    return NULL;
}

void receive_inherited_clear(struct receive_inherited *r)
{
    for (size_t i = 0; i < RECEIVE_INHERITED_MAX; i++) {
        free(r->all[i].value);
        r->all[i].value = NULL;
    }
}
