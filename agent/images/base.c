/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/images/base.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"
#include "images/image.h"

#define AGAIN_MS 600000 /* after a failure: the pool may be full, and each attempt writes until it is */

struct base_job {
    struct agent *agent;
    char *fingerprint;
};

static struct base_job *base_job_new(struct agent *a, const struct image *i)
{
    struct base_job *j = mem_new(struct base_job);

    *j = (struct base_job){a, str_dup(i->fingerprint)};
    return j;
}

/* The image may have been removed meanwhile, with all its bases. */
static void on_made(void *owner, struct err *e, json_t *result)
{
    struct base_job *j = owner;
    struct image *i = image_find(j->agent, j->fingerprint);

    if (i && !e)
        i->bases++;
    if (i) {
        i->base_busy = false;
        i->base_failed_ms = e ? clock_mono_ms() : 0;
    }
    log_err(NULL, LOG_LEVEL_WARNING, e, "a further base of an image could not be made");
    json_decref(result);
    free(j->fingerprint);
    free(j);
}

static void make_next(struct agent *a, struct image *i)
{
    const struct job_image_base args = {
        .fingerprint = i->fingerprint, .base = i->bases, .reserve_bytes = a->config->reserve};

    if (i->base_busy || i->bases > IMAGE_BASES_MAX || a->stopping ||
        (i->base_failed_ms && clock_mono_ms() - i->base_failed_ms < AGAIN_MS))
        return;
    i->base_busy = true;
    agent_job(a, JOB_IMAGE_BASE, 0, &args, 0, base_job_new(a, i), on_made);
}

/* Counts the containers of each base; how many more the bases have room for. */
static int64_t count(const struct agent *a, const struct image *i, int64_t children[IMAGE_BASES_MAX + 1])
{
    int64_t room = i->bases * a->config->base_children;

    for (size_t n = 0; n < a->container_count; n++) {
        const struct container_record *r = &a->containers[n]->record;

        if (!str_eq(r->image_fingerprint, i->fingerprint) || r->base < 0 || r->base >= i->bases)
            continue;
        children[r->base]++;
        room--;
    }
    return room;
}

int64_t image_base_choose(struct agent *a, struct image *i)
{
    int64_t children[IMAGE_BASES_MAX + 1] = {0}, most = a->config->base_children, best = 0;

    if (count(a, i, children) <= most / 8) /* that many are made while the next base is */
        make_next(a, i);
    for (int64_t n = i->bases - 1; n >= 0; n--)
        if (children[n] < most || (children[best] >= most && children[n] < children[best]))
            best = n;
    return best;
}

static void on_removed(void *owner, struct err *e, json_t *result)
{
    struct base_job *j = owner;
    struct image *i = image_find(j->agent, j->fingerprint);

    if (i) {
        i->base_busy = false;
        i->bases += e != NULL;
        if (!e)
            image_base_release(j->agent, j->fingerprint);
    }
    log_err(NULL, LOG_LEVEL_WARNING, e, "a base of an image could not be removed");
    json_decref(result);
    free(j->fingerprint);
    free(j);
}

/* Room for half a base stays, so that the next few containers do not bring it back. */
void image_base_release(struct agent *a, const char *fingerprint)
{
    struct image *i = fingerprint ? image_find(a, fingerprint) : NULL;
    int64_t children[IMAGE_BASES_MAX + 1] = {0}, most = a->config->base_children;
    struct job_image_base args;

    if (!i || i->base_busy || i->bases < 2 || a->stopping || count(a, i, children) - most < most / 2 ||
        children[i->bases - 1] > 0)
        return;
    i->base_busy = true;
    args = (struct job_image_base){.fingerprint = i->fingerprint, .base = --i->bases};
    agent_job(a, JOB_IMAGE_BASE_REMOVE, 0, &args, 0, base_job_new(a, i), on_removed);
}
