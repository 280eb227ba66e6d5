/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Subvolumes that a container has made inside its root file system, as Docker's btrfs driver does. A snapshot of the
 * kernel leaves empty directories in their places; these functions see to the rest.
 */
#pragma once

#include <stdbool.h>

#include "base/err.h"

#define NESTED_MAX 4096 /* below one root file system */

/* Whether there are any. */
MUST_USE struct err *nested_exist(const char *subvolume, bool *ret);

/* dst is a fresh, writable snapshot of src that nobody else can reach. Puts snapshots of the subvolumes nested below
 * src in their places, read-only where the original is. src may be changing meanwhile, by somebody hostile: paths in it
 * are resolved below it and without symbolic links, and what is found must be the subvolume that was listed. One that
 * came later, is gone or was moved since dst was made is left out. ERR_LIMIT: more than NESTED_MAX. */
MUST_USE struct err *nested_snapshot(const char *src, const char *dst);

/* Destroys a subvolume with all that are nested below it, read-only ones too. Missing is success. Nobody else may reach
 * it any more. */
MUST_USE struct err *nested_destroy(const char *subvolume);

/* dst is a fresh snapshot of src (both open). Where src has nested subvolumes, dst has empty directories that no call
 * but rmdir changes: they are removed. */
MUST_USE struct err *nested_remove_places(int src, int dst);

/* Calls each for every subvolume below root (a path; nobody else may change it), parents before what is in them, with
 * its path relative to root. */
typedef struct err *nested_each_fn(void *owner, const char *path, bool readonly);
MUST_USE struct err *nested_each(const char *root, nested_each_fn *each, void *owner);

/* The subvolume at a path below root, which is open, without symbolic links; -1: there is none. "": root itself. */
int nested_open(int root, const char *path);
/* The same of any directory. */
int nested_open_dir(int root, const char *path);

/* All that are nested below root become read-only, or writable; root itself stays as it is. */
MUST_USE struct err *nested_set_readonly(const char *root, bool readonly);
