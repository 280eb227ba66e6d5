/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/image_base.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"
#include "images/image.h"

#define AGAIN_MS 600000 /* after a failure: the pool may be full, and each attempt writes until it is */

struct making {
    struct agent *agent;
    char *fingerprint;
};

/* The image may have been removed meanwhile, with all its bases. */
static void on_made(void *owner, struct err *e, json_t *result)
{
    struct making *m = owner;
    struct image *i = image_find(m->agent, m->fingerprint);

    if (i && !e)
        i->bases++;
    if (i) {
        i->making_base = false;
        i->base_failed_ms = e ? clock_mono_ms() : 0;
    }
    log_err(NULL, LOG_LEVEL_WARNING, e, "a further base of an image could not be made");
    json_decref(result);
    free(m->fingerprint);
    free(m);
}

static void make_next(struct agent *a, struct image *i)
{
    const struct job_image_base args = {
        .fingerprint = i->fingerprint, .base = i->bases, .reserve_bytes = a->config->reserve};
    struct making *m;

    if (i->making_base || i->bases > IMAGE_BASES_MAX || a->stopping ||
        (i->base_failed_ms && clock_mono_ms() - i->base_failed_ms < AGAIN_MS))
        return;
    i->making_base = true;
    m = mem_new(struct making);
    *m = (struct making){a, str_dup(i->fingerprint)};
    agent_job(a, JOB_IMAGE_BASE, 0, &args, 0, m, on_made);
}

int64_t image_base_choose(struct agent *a, struct image *i)
{
    int64_t children[IMAGE_BASES_MAX + 1] = {0}, most = a->config->base_children, room = i->bases * most, best = 0;

    for (size_t n = 0; n < a->container_count; n++) {
        const struct container_record *r = &a->containers[n]->record;

        if (!str_eq(r->image_fingerprint, i->fingerprint) || r->base < 0 || r->base >= i->bases)
            continue;
        children[r->base]++;
        room--;
    }
    if (room <= most / 8) /* that many are made while the next base is */
        make_next(a, i);
    for (int64_t n = i->bases - 1; n >= 0; n--)
        if (children[n] < most || (children[best] >= most && children[n] < children[best]))
            best = n;
    return best;
}
