/* SPDX-License-Identifier: Apache-2.0 */
#include "images/image.h"
#include "provisioning/bundle.h"
#include "runtime/job.h"
#include "storage/layout.h"

struct err *job_do_image_import(const struct job *job, void *args, json_t **ret)
{
    const struct job_image_import *a = args;
    int64_t bytes = 0;
    struct err *e = layout_image_ok(a->image) ? NULL : err_field("image", "is no valid name");

    if (!e)
        e = image_import(job->target.pool, a->image, a->file, &bytes);
    if (!e)
        *ret = json_pack("{s:s, s:I}", "image", a->image, "size_bytes", (json_int_t)bytes);
    return e;
}

struct err *job_do_kit_install(const struct job *job, void *args, json_t **ret)
{
    const struct job_kit_install *a = args;

    return bundle_install(job->target.pool, a->file, a->public_key, ret);
}
