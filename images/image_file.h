/* SPDX-License-Identifier: Apache-2.0 */
/* Within images/: the files of an archive, whole and with their digest. */
#pragma once

#include "images/image.h"
#include "images/image_unpack.h"

#define IMAGE_FINGERPRINT_SIZE 65

/* Opens what is to be imported; what comes as a stream is first written to nameless files in the pool, which nobody has
 * to clean up. Fills root, metadata and input_bytes; the caller closes both fds, also after an error. */
MUST_USE struct err *image_files_open(const struct image_import *in, struct image_files *ret,
                                      char ret_fingerprint[IMAGE_FINGERPRINT_SIZE]);
/* The size is kept on the image's own root; trusted.* cannot be seen or set from within a user namespace. */
#define IMAGE_BYTES_XATTR "trusted.noded.bytes"
/* Of an image in the pool; 0 when it is not known. */
int64_t image_recorded_bytes(const char *path);
