/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Images: root file systems that containers are made from. The canonical name is "distribution/version"; an image in
 * the pool is the read-only subvolume layout_image().
 */
#pragma once

#include <jansson.h>
#include <stdint.h>

#include "base/err.h"

#define IMAGE_DEFAULT "debian/13"

/* "debian", "debian-13", "debian:13", "debian 13", "debian/13" and NULL all mean "debian/13". Case does not matter.
 * NULL when the text is no image name; else the caller frees it. */
char *image_name_canonical(const char *text);
/* The name with '-' for '/', as it stands in file names; of a canonical name only. The caller frees it. */
char *image_file_name(const char *canonical);

/* Unpacks a tar archive (plain, .gz, .xz, .zst) into the pool. Already there: nothing is done. An interrupted import
 * leaves nothing that counts and its remains are removed by the next one. *ret_bytes = sum of the file sizes. */
MUST_USE struct err *image_import(const char *pool, const char *image, const char *file, int64_t *ret_bytes);
/* Array of canonical names in the pool. */
MUST_USE struct err *image_list(const char *pool, json_t **ret_array);
