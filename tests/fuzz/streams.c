/* SPDX-License-Identifier: Apache-2.0 */
/* Index and catalogue of a simplestreams server. What is found can be used: its paths stay below the server's root. */
#include <stddef.h>
#include <stdint.h>

#include "base/json_table.h"
#include "base/str.h"
#include "images/image.h"
#include "images/streams.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    autojson json = NULL;
    autojson paths = NULL;
    struct streams_image image = {0};
    struct err *e = json_parse((const char *)data, size, "fuzz", &json);

    if (!e)
        err_ignore(streams_catalogues(json, &paths));
    if (!e)
        e = streams_find(json, "tiny/1", &image);
    for (size_t i = 0; !e && i < image.count; i++)
        if (strstr(image.files[i].path, "..") || image.files[i].path[0] == '/' ||
            !image_fingerprint_ok(image.files[i].sha256) || image.files[i].size <= 0)
            abort();
    streams_image_clear(&image);
    err_free(e);
    return 0;
}
