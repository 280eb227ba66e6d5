/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How much a subvolume has written: btrfs simple quotas (Linux 6.7 and later). They charge an extent to the subvolume
 * that wrote it, for as long as it exists, so they cost next to nothing; full qgroups, which follow who shares what,
 * are never switched on. The kernel's numbers are those of its last transaction, up to 30 seconds old.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

/* Switches them on for the file system of `pool`; a kernel that has none changes nothing, and that is no error. */
MUST_USE struct err *quota_enable(const char *pool);
bool quota_is_on(const char *pool);
/* Bytes charged to the subvolume's account, or to itself when it has none. -1 when simple quotas are off, or do not
 * know it yet. */
MUST_USE struct err *quota_usage(const char *subvolume, int64_t *ret_bytes);

/* Bytes charged to this one subvolume; -1 as above. By its id also when it is deleted, as long as the kernel is at it.
 */
int64_t quota_own(const char *subvolume);
int64_t quota_of_id(int pool_fd, uint64_t id);
/* The account of a subvolume, by its path or its id; 0: it has none, or simple quotas are off. */
uint64_t quota_account(const char *subvolume);
uint64_t quota_account_of_id(int pool_fd, uint64_t id);

/*
 * An account is a group, of a level that only we use, that the roots of one container belong to, the present one and
 * those before: what they wrote counts for as long as it exists, be it in snapshots only. Subvolumes that are made
 * inside a root belong to the root's account from the start (Linux 6.8). It is named by the id of its first root, which
 * the file system gives only once. Without simple quotas there are no accounts, and that is no error.
 */
MUST_USE struct err *quota_account_open(const char *root); /* idempotent */
/* `to` becomes one of the account that `from` is of. */
MUST_USE struct err *quota_account_pass_on(const char *from, const char *to);
/* Who would write more gets EDQUOT; deleting still works. 0: no limit. ERR_HOST without simple quotas. */
MUST_USE struct err *quota_account_limit(const char *root, int64_t bytes);
/* Accounts that no subvolume is left of go, and so do groups of subvolumes that are gone with all that they wrote. */
void quota_account_sweep(const char *pool);
