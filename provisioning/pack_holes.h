/* SPDX-License-Identifier: Apache-2.0 */
/* Where a file has data: holes of sparse files are not read, and an archive says where they are. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/* Beyond that many parts the rest of a file is one part, holes and all: an archive's map of a file stays small. */
#define PACK_REGIONS_MAX (1 << 18)
/* No file of a tar archive may be longer: libarchive wants to be told of every byte of a hole. */
#define PACK_SIZE_MAX (INT64_C(1) << 50)

/* So many bytes of holes are written as zeros where an archive cannot say where they are. */
#define PACK_ZEROS_MAX (INT64_C(4) << 30)
/* A part of a file that is all hole: libarchive cannot write a map without any. It ends with the file, has so many
 * bytes at most, and does not begin at a multiple of PACK_ALIGNMENT, as data does. */
#define PACK_MARK_MAX 2
#define PACK_ALIGNMENT 4096

struct pack_region {
    int64_t at, len;
};

/* Whether an archive can say where the holes of a file are. libarchive (3.6.2) cuts off the name of a sparse file when
 * its path is not ASCII alone and does not fit into the oldest header of tar, which has 100 bytes for a name and 155
 * for the directories before it. */
bool pack_path_allows_map(const char *path);
/* The parts of the file `fd` of `size` bytes that hold data, in their order. *ret_count 0: the file is written whole,
 * because it has no hole or because its path in the archive does not allow a map. A file that is all hole has one part,
 * a mark (above); one of a single byte is written whole. *ret is the caller's to free. ERR_HOST: `size` is above
 * PACK_SIZE_MAX, more than PACK_ZEROS_MAX bytes of holes would be written, or the file system does not answer. The file
 * must not change meanwhile. */
MUST_USE struct err *pack_regions(int fd, const char *path, int64_t size, struct pack_region **ret, size_t *ret_count);
