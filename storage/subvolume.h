/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Btrfs subvolumes by ioctl. Paths are absolute and the node's own: their parent directories are never writable by a
 * container, so no symbolic link can stand in the way.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

/* An empty subvolume. ERR_CONFLICT when something has that name. */
MUST_USE struct err *subvolume_create(const char *path);

/* dst becomes a copy-on-write copy of src, the subvolumes nested below it (Docker makes them) included: they are copied
 * one after the other, so what writes to several of them should be held meanwhile. ERR_NOT_FOUND without src,
 * ERR_CONFLICT when dst exists, ERR_LIMIT with more than NESTED_MAX nested ones. dst is whole or not there; a crash may
 * leave a temporary name (layout.h) beside it. */
MUST_USE struct err *subvolume_snapshot(const char *src, const char *dst, bool readonly);

/* The same for the root of a container, writable. former: the root whose place it takes, so that both are charged to
 * one account (quota.h); NULL: it gets an account of its own. */
MUST_USE struct err *subvolume_root(const char *src, const char *dst, const char *former);

MUST_USE struct err *subvolume_set_readonly(const char *path, bool readonly);

/* Gone from its place at once, by a rename into the pool's trash, where it waits to be destroyed (reclaim.h) with all
 * subvolumes nested below it. Missing is success. A plain directory is removed the same way. */
MUST_USE struct err *subvolume_delete(const char *pool, const char *path);

/* Exchanges two existing names in one step. */
MUST_USE struct err *subvolume_exchange(const char *a, const char *b);

/* True for a subvolume, false for anything else and for nothing. */
bool subvolume_exists(const char *path);
