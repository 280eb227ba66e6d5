/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where things are in the pool:
 *   images/<fingerprint>/               read-only subvolume
 *   kits/<name>-<version>/              read-only subvolume
 *   slots/<slot>/rootfs                 subvolume
 *   slots/<slot>/snapshots/<name>       read-only subvolumes
 *   slots/<slot>/base                   read-only: what a copy from another node got last, as it came
 *   slots/<slot>/sent/<copy>.<n>        read-only: what another node's copy of this one has got
 *   trash/                              subvolumes on their way out
 * A name that begins with LAYOUT_TEMPORARY is a half-made object: whoever finds one may delete it.
 *
 * Every function returns a fresh path, the caller's. Names given here are checked before by layout_name_ok().
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/mem.h"

#define LAYOUT_TEMPORARY ".new-"
#define LAYOUT_SLOT_MAX 16383
#define LAYOUT_NAME_MAX 128

char *layout_images(const char *pool);
char *layout_kits(const char *pool);
char *layout_slots(const char *pool);
char *layout_trash(const char *pool);

char *layout_image(const char *pool, const char *image);
char *layout_kit(const char *pool, const char *name, const char *version);
char *layout_slot(const char *pool, int64_t slot);
char *layout_rootfs(const char *pool, int64_t slot);
char *layout_base(const char *pool, int64_t slot);
char *layout_sent(const char *pool, int64_t slot);
char *layout_snapshots(const char *pool, int64_t slot);
char *layout_snapshot(const char *pool, int64_t slot, const char *name);

/* "<dir>/.new-<name>": where an object of that name is made before it is renamed to its place. */
char *layout_temporary(const char *dir, const char *name);

/* One directory entry of 1..LAYOUT_NAME_MAX letters, digits, '.', '_', '-', '+', '~', not beginning with '.': what a
 * snapshot, kit or version may be called on disk. */
bool layout_name_ok(const char *name);
/* The same, with '/' allowed between such parts: an image name. */
bool layout_image_ok(const char *image);
static inline bool layout_slot_ok(int64_t slot)
{
    return slot >= 1 && slot <= LAYOUT_SLOT_MAX;
}
