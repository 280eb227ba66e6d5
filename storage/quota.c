/* SPDX-License-Identifier: Apache-2.0 */
#include "storage/quota.h"

#include <btrfsutil.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/btrfs.h>
#include <linux/btrfs_tree.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <time.h>

#include "base/fd.h"
#include "base/str.h"

/* From linux/btrfs.h and linux/btrfs_tree.h of 6.7; the headers may be older than the kernel. */
enum { CTL_ENABLE_SIMPLE = 4 };
#define STATUS_SIMPLE_MODE (1ULL << 3)

/* Groups: level in the upper 16 bits; level 0 are the subvolumes, by their ids. */
#define LEVEL_SHIFT 48
#define LEVEL UINT64_C(0x6e64) /* "nd": an administrator's own groups are at low levels */
#define ACCOUNT(id) (LEVEL << LEVEL_SHIFT | (id))
#define ACCOUNTS_END ((LEVEL + 1) << LEVEL_SHIFT)

/* The first item of a tree between two keys that differ in the offset only; ret: its first `size` bytes, may be
 * NULL. False when there is none, or no such tree. */
static bool find_in(int fd, uint64_t tree, const struct btrfs_ioctl_search_key *key, uint64_t *ret_offset, void *ret,
                    size_t size)
{
    union {
        struct btrfs_ioctl_search_args args;
        char room[sizeof(struct btrfs_ioctl_search_args)];
    } u = {.args.key = *key};
    struct btrfs_ioctl_search_header h;

    u.args.key.tree_id = tree;
    u.args.key.max_objectid = key->min_objectid;
    u.args.key.max_type = key->min_type;
    u.args.key.max_transid = UINT64_MAX;
    u.args.key.nr_items = 1;
    if (ioctl(fd, BTRFS_IOC_TREE_SEARCH, &u.args) < 0 || u.args.key.nr_items == 0)
        return false;
    memcpy(&h, u.args.buf, sizeof(h));
    if (h.len < size)
        return false;
    if (ret_offset)
        *ret_offset = h.offset;
    if (ret)
        memcpy(ret, u.args.buf + sizeof(h), size);
    return true;
}

static bool find_item(int fd, const struct btrfs_ioctl_search_key *key, uint64_t *ret_offset, void *ret, size_t size)
{
    return find_in(fd, BTRFS_QUOTA_TREE_OBJECTID, key, ret_offset, ret, size);
}

static bool read_item(int fd, uint32_t type, uint64_t offset, void *ret, size_t size)
{
    const struct btrfs_ioctl_search_key key = {.min_type = type, .min_offset = offset, .max_offset = offset};

    return find_item(fd, &key, NULL, ret, size);
}

static bool is_on(int fd)
{
    struct btrfs_qgroup_status_item item;

    return read_item(fd, BTRFS_QGROUP_STATUS_KEY, 0, &item, sizeof(item)) && le64toh(item.flags) & STATUS_SIMPLE_MODE;
}

bool quota_is_on(const char *pool)
{
    autofd int fd = open(pool, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    return fd >= 0 && is_on(fd);
}

struct err *quota_enable(const char *pool)
{
    autofd int fd = open(pool, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct btrfs_ioctl_quota_ctl_args args = {.cmd = CTL_ENABLE_SIMPLE};

    if (fd < 0)
        return err_errno(errno, "'%s'", pool);
    if (is_on(fd) || ioctl(fd, BTRFS_IOC_QUOTA_CTL, &args) == 0)
        return NULL;
    return errno == EINVAL || errno == ENOTTY || errno == EOPNOTSUPP
               ? NULL
               : err_errno(errno, "cannot switch on simple quotas of '%s'", pool);
}

uint64_t quota_account_of_id(int pool_fd, uint64_t id)
{
    const struct btrfs_ioctl_search_key key = {.min_objectid = id,
                                               .min_type = BTRFS_QGROUP_RELATION_KEY,
                                               .min_offset = ACCOUNT(0),
                                               .max_offset = ACCOUNTS_END - 1};
    uint64_t account = 0;

    (void)find_item(pool_fd, &key, &account, NULL, 0);
    return account;
}

/* *ret_account = the group that the subvolume belongs to; 0: none. */
static struct err *find_account(int fd, const char *subvolume, uint64_t *ret_id, uint64_t *ret_account)
{
    *ret_account = 0;
    if (btrfs_util_subvolume_id_fd(fd, ret_id) != BTRFS_UTIL_OK)
        return err_errno(errno, "'%s'", subvolume);
    *ret_account = quota_account_of_id(fd, *ret_id);
    return NULL;
}

static struct err *open_subvolume(const char *path, int *ret_fd)
{
    *ret_fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return *ret_fd < 0 ? err_errno(errno, "'%s'", path) : NULL;
}

int64_t quota_of_id(int pool_fd, uint64_t id)
{
    struct btrfs_qgroup_info_item item;

    return read_item(pool_fd, BTRFS_QGROUP_INFO_KEY, id, &item, sizeof(item)) ? (int64_t)le64toh(item.rfer) : -1;
}

/* Its id and account, 0 each when it cannot be opened or has none; *ret_fd is the caller's. */
static void look_up(const char *subvolume, int *ret_fd, uint64_t *ret_id, uint64_t *ret_account)
{
    struct err *e = open_subvolume(subvolume, ret_fd);

    *ret_id = *ret_account = 0;
    if (!e)
        e = find_account(*ret_fd, subvolume, ret_id, ret_account);
    err_ignore(e);
}

uint64_t quota_account(const char *subvolume)
{
    uint64_t id, account;
    autofd int fd = -1;

    look_up(subvolume, &fd, &id, &account);
    return account;
}

int64_t quota_own(const char *subvolume)
{
    uint64_t id, account;
    autofd int fd = -1;

    look_up(subvolume, &fd, &id, &account);
    return id ? quota_of_id(fd, id) : -1;
}

struct err *quota_usage(const char *subvolume, int64_t *ret_bytes)
{
    uint64_t id = 0, account = 0;
    autofd int fd = -1;
    struct err *e = open_subvolume(subvolume, &fd);

    if (!e)
        e = find_account(fd, subvolume, &id, &account);
    if (!e)
        *ret_bytes = is_on(fd) ? quota_of_id(fd, account ? account : id) : -1;
    return e;
}

/* Both may be so already. */
static struct err *enter(int fd, const char *subvolume, uint64_t id, uint64_t account)
{
    struct btrfs_ioctl_qgroup_create_args create = {.create = 1, .qgroupid = account};
    struct btrfs_ioctl_qgroup_assign_args assign = {.assign = 1, .src = id, .dst = account};

    if (ioctl(fd, BTRFS_IOC_QGROUP_CREATE, &create) < 0 && errno != EEXIST)
        return err_errno(errno, "cannot make the account of '%s'", subvolume);
    if (ioctl(fd, BTRFS_IOC_QGROUP_ASSIGN, &assign) < 0 && errno != EEXIST)
        return err_errno(errno, "cannot charge '%s' to its account", subvolume);
    return NULL;
}

struct err *quota_account_open(const char *root)
{
    uint64_t id = 0, account = 0;
    autofd int fd = -1;
    struct err *e = open_subvolume(root, &fd);

    if (!e && is_on(fd))
        e = find_account(fd, root, &id, &account);
    return e || !id || account ? e : enter(fd, root, id, ACCOUNT(id));
}

struct err *quota_account_pass_on(const char *from, const char *to)
{
    uint64_t from_id = 0, id = 0, account = 0, own = 0;
    autofd int fd = -1, old = -1;
    struct err *e = quota_account_open(from);

    if (!e)
        e = open_subvolume(from, &old);
    if (!e)
        e = open_subvolume(to, &fd);
    if (!e)
        e = find_account(old, from, &from_id, &account);
    if (!e)
        e = find_account(fd, to, &id, &own);
    return e || !account || own == account ? e : enter(fd, to, id, account);
}

struct err *quota_account_limit(const char *root, int64_t bytes)
{
    struct btrfs_ioctl_qgroup_limit_args args = {
        .lim = {.flags = BTRFS_QGROUP_LIMIT_MAX_RFER, .max_rfer = bytes ? (uint64_t)bytes : UINT64_MAX}};
    /* By the pool's own subvolume: the kernel charges the call to the subvolume that it is made by, and refuses it
     * there when that one is at its limit. */
    autofree char *above = str_fmt("%s/..", root);
    uint64_t id = 0, account = 0;
    autofd int fd = -1, pool = -1;
    struct err *e = quota_account_open(root);

    if (!e)
        e = open_subvolume(root, &fd);
    if (!e)
        e = open_subvolume(above, &pool);
    if (!e && !is_on(fd))
        return bytes ? err_new(ERR_HOST, "the pool has no simple quotas of btrfs, so it keeps no limit") : NULL;
    if (!e)
        e = find_account(fd, root, &id, &account);
    args.qgroupid = account;
    if (!e && ioctl(pool, BTRFS_IOC_QGROUP_LIMIT, &args) < 0)
        e = err_errno(errno, "cannot limit '%s'", root);
    return e;
}

/* One that is deleted and that the kernel is still at exists. */
static bool subvolume_is_there(int fd, uint64_t id)
{
    const struct btrfs_ioctl_search_key key = {
        .min_objectid = id, .min_type = BTRFS_ROOT_ITEM_KEY, .max_offset = UINT64_MAX};

    return find_in(fd, BTRFS_ROOT_TREE_OBJECTID, &key, NULL, NULL, 0);
}

static void remove_group(int fd, uint64_t id)
{
    struct btrfs_ioctl_qgroup_create_args remove = {.create = 0, .qgroupid = id};

    (void)ioctl(fd, BTRFS_IOC_QGROUP_CREATE, &remove); /* busy as long as it has members */
}

enum { SWEEP_MAX = 1024, BEING_MADE_MS = 100 };

static size_t find_left(int fd, uint64_t *ids)
{
    struct btrfs_ioctl_search_key key = {.min_type = BTRFS_QGROUP_INFO_KEY,
                                         .min_offset = BTRFS_FIRST_FREE_OBJECTID,
                                         .max_offset = (UINT64_C(1) << LEVEL_SHIFT) - 1};
    size_t n = 0;
    uint64_t id;

    for (; n < SWEEP_MAX && find_item(fd, &key, &id, NULL, 0); key.min_offset = id + 1)
        if (!subvolume_is_there(fd, id) && quota_of_id(fd, id) == 0)
            ids[n++] = id;
    return n;
}

/* When a subvolume is deleted while others share its extents, the kernel keeps its quota group. Once the extents are
 * gone the group is empty, but it still belongs to its account, and an account with a member cannot be removed. So
 * empty groups without a subvolume are removed here. The kernel makes the group of a new subvolume some moments before
 * the subvolume: each group is looked at twice, BEING_MADE_MS apart. */
static void sweep_subvolumes(int fd)
{
    const struct timespec moment = {.tv_nsec = BEING_MADE_MS * 1000000L};
    autofree uint64_t *ids = mem_new_array(uint64_t, SWEEP_MAX);
    size_t n = find_left(fd, ids);

    if (n > 0)
        (void)nanosleep(&moment, NULL);
    for (size_t i = 0; i < n; i++) {
        struct btrfs_ioctl_qgroup_assign_args leave = {.assign = 0, .src = ids[i]};

        if (subvolume_is_there(fd, ids[i]))
            continue;
        leave.dst = quota_account_of_id(fd, ids[i]);
        if (leave.dst)
            (void)ioctl(fd, BTRFS_IOC_QGROUP_ASSIGN, &leave);
        remove_group(fd, ids[i]);
    }
}

void quota_account_sweep(const char *pool)
{
    struct btrfs_ioctl_search_key key = {
        .min_type = BTRFS_QGROUP_INFO_KEY, .min_offset = ACCOUNT(0), .max_offset = ACCOUNTS_END - 1};
    autofd int fd = open(pool, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    uint64_t account;

    if (fd < 0 || !is_on(fd))
        return;
    sweep_subvolumes(fd);
    for (; find_item(fd, &key, &account, NULL, 0); key.min_offset = account + 1)
        remove_group(fd, account);
}
