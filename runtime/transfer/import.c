/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <unistd.h>

#include "base/failpoint.h"
#include "base/str.h"
#include "images/image.h"
#include "provisioning/bundle.h"
#include "runtime/job.h"
#include "storage/layout.h"

static void tell(void *owner, int64_t done, int64_t total)
{
    job_progress(owner, done, total);
}

struct err *job_do_image_import(const struct job *job, void *args, json_t **ret)
{
    const struct job_image_import *a = args;
    const struct image_import in = {.pool = job->target.pool,
                                    .file = a->file,
                                    .metadata_file = a->metadata_file,
                                    .stream = job->stream,
                                    .split_bytes = a->split_bytes,
                                    .fingerprint = a->fingerprint,
                                    .owner = (void *)(uintptr_t)job,
                                    .progress = tell};

    if (!a->file && job->stream < 0)
        return err_new(ERR_INTERNAL, "there is neither a file nor a stream");
    return image_import(&in, ret);
}

struct err *job_do_image_fetch(const struct job *job, void *args, json_t **ret)
{
    const struct job_image_fetch *a = args;
    const struct image_fetch in = {.look = a->look,
                                   .pool = job->target.pool,
                                   .urls = a->urls,
                                   .ca_file = a->ca_file,
                                   .name = a->name,
                                   .owner = (void *)(uintptr_t)job,
                                   .progress = tell};

    return image_fetch(&in, ret);
}

struct err *job_do_image_publish(const struct job *job, void *args, json_t **ret)
{
    const struct job_image_publish *a = args;
    autofree char *source = NULL;

    if (a->snapshot && !layout_name_ok(a->snapshot))
        return err_field("snapshot", "is no valid name");
    source = a->snapshot ? layout_snapshot(job->target.pool, job->target.slot, a->snapshot)
                         : layout_rootfs(job->target.pool, job->target.slot);
    return image_publish(job->target.pool, source, ret);
}

struct err *job_do_image_remove(const struct job *job, void *args, UNUSED json_t **ret)
{
    const struct job_image *a = args;

    return image_remove(job->target.pool, a->fingerprint);
}

struct err *job_do_image_base(const struct job *job, void *args, UNUSED json_t **ret)
{
    const struct job_image_base *a = args;

    return image_base_make(job->target.pool, a->fingerprint, a->base, a->reserve_bytes);
}

struct err *job_do_image_base_remove(const struct job *job, void *args, UNUSED json_t **ret)
{
    const struct job_image_base *a = args;

    return image_base_remove(job->target.pool, a->fingerprint, a->base);
}

struct err *job_do_kit_install(const struct job *job, void *args, json_t **ret)
{
    const struct job_kit_install *a = args;

    return bundle_install(job->target.pool, a->file, a->public_key, ret);
}

/* The file first: a kit without it is still whole, and a file without its kit would bring the kit back. */
struct err *job_do_kit_remove(const struct job *job, void *args, UNUSED json_t **ret)
{
    const struct job_kit_remove *a = args;
    autofree char *file = NULL;
    struct err *e;

    if (!manifest_is_name(a->name) || !manifest_is_version(a->version))
        return err_field("name", "not the name and version of a kit");
    file = str_fmt("%s/%s-%s.kit", a->dir, a->name, a->version);
    if (unlink(file) < 0 && errno != ENOENT)
        return err_errno(errno, "'%s'", file);
    e = failpoint("kit.file_removed");
    return e ? e : bundle_remove(job->target.pool, a->name, a->version);
}
