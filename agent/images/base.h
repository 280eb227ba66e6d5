/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The bases of an image. Everything that is a snapshot of one subvolume shares the blocks of its tree, and the kernel
 * takes the longer to write to them and to delete them, the more there are. So there are copies of an image's
 * subvolume, each for storage.base_children containers; the next one is made before it is needed. Loop thread only.
 */
#pragma once

#include "agent/images/set.h"

/* Which one a new container is made from: the first that has room, else the one with the fewest containers. */
int64_t image_base_choose(struct agent *a, struct image *i);

/* A container of that image is gone (NULL: of none): bases that are not needed any more go, the last first. */
void image_base_release(struct agent *a, const char *fingerprint);
