/* SPDX-License-Identifier: Apache-2.0 */
/* metadata.yaml of an image that somebody made. */
#include <stddef.h>
#include <stdint.h>

#include "base/json_table.h"
#include "images/image.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    autojson metadata = NULL;

    err_ignore(image_metadata_parse((const char *)data, size, &metadata));
    return 0;
}
