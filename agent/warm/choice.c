/* SPDX-License-Identifier: Apache-2.0 */
/* What a container is made from, and which of the spare ones a create may have. */
#include "agent/warm/internal.h"

#include <stdio.h>

#include "agent/images/base.h"
#include "agent/images/set.h"
#include "agent/kits/kits.h"
#include "agent/kits/upgrade.h"
#include "agent/kits/watch.h"
#include "base/clock.h"
#include "base/str.h"

/* dev_kit is a layer that was put on the image beforehand: an image of its own, "debian/13.dev". A node that has none
 * makes the container without. */
struct image *warm_image_for(const struct agent *a, const char *name, bool dev_kit)
{
    autofree char *layered = str_fmt("%s.dev", name);
    struct image *image = dev_kit ? image_find_by_alias(a, layered) : NULL;

    return image ? image : image_find_by_alias(a, name);
}

void warm_fill(struct agent *a, struct container *c, char *name, bool hoody_kit, bool dev_kit)
{
    struct image *image = warm_image_for(a, name, dev_kit);
    struct container_record *r = &c->record;

    r->image = name;
    if (image) {
        r->image_fingerprint = str_dup(image->fingerprint);
        r->base = image_base_choose(a, image);
        image->last_used_at = clock_wall_ms();
    }
    r->hoody_kit = hoody_kit;
    r->dev_kit = dev_kit;
    if (!hoody_kit)
        return;
    json_decref(r->kits);
    r->kits = kits_of_suite(a, r->image);
}

/* Of the configuration, what a claim does not write anew. */
char *warm_made_with(const struct config *config)
{
    char *text = str_fmt("ramdisk=%lld dns=", (long long)config->ramdisk_size);

    for (char **p = config->dns; p && *p; p++) {
        char *longer = str_fmt("%s%s,", text, *p);

        free(text);
        text = longer;
    }
    return text;
}

struct warm_pool *warm_pool_of(const struct warm *w, const struct container_record *r)
{
    for (size_t i = 0; w && i < w->count; i++)
        if (str_eq(w->pools[i].want.image, r->image) && w->pools[i].want.hoody_kit == r->hoody_kit &&
            w->pools[i].want.dev_kit == r->dev_kit)
            return &w->pools[i];
    return NULL;
}

bool warm_is_leaving(const struct container *c)
{
    return c->op && c->op->kind == &op_delete;
}

size_t warm_count_of(const struct warm *w, const struct warm_pool *pool)
{
    const struct agent *a = w->agent;
    size_t n = 0;

    for (size_t i = 0; i < a->container_count; i++) {
        const struct container *c = a->containers[i];

        n += c->record.spare && !warm_is_leaving(c) && warm_pool_of(w, &c->record) == pool;
    }
    return n;
}

static const char *outdated(const struct agent *a, const struct container_record *r)
{
    const struct image *image = warm_image_for(a, r->image, r->dev_kit);
    autojson kits = r->hoody_kit ? kits_of_suite(a, r->image) : json_array();
    autofree char *with = warm_made_with(a->config);

    return !image || !str_eq(image->fingerprint, r->image_fingerprint) ? "the image is another one"
           : !json_equal(kits, r->kits)                                ? "the suite is another one"
           : !str_eq(with, r->spare)                                   ? "the configuration is another one"
                                                                       : NULL;
}

void warm_judge(const struct warm *w, const struct container *c, char ret[WARM_REASON_SIZE])
{
    const struct warm_pool *pool = warm_pool_of(w, &c->record);
    const char *reason = NULL;
    struct err *e = NULL;

    if (c->op)
        reason = NULL;
    else if (c->spare_failed || c->record.status == CONTAINER_FAILED)
        reason = "it could not be started or claimed";
    else if (!c->init_pid || c->record.status != CONTAINER_RUNNING)
        reason = "it does not run any more";
    else if (!pool || warm_count_of(w, pool) > (size_t)pool->want.high)
        reason = "no pool wants it";
    else
        reason = outdated(w->agent, &c->record);
    if (!reason && !c->op && kit_watch_is_over(c))
        e = upgrade_unhealthy(c->kit_health);
    if (e)
        reason = err_message(e);
    snprintf(ret, WARM_REASON_SIZE, "%s", reason ? reason : "");
    err_ignore(e);
}

bool warm_is_ready(const struct warm *w, const struct container *c)
{
    char reason[WARM_REASON_SIZE];

    if (!c->record.spare || c->op || c->committing || (json_array_size(c->record.kits) > 0 && !kit_watch_is_over(c)))
        return false;
    warm_judge(w, c, reason);
    return reason[0] == '\0';
}

struct container *warm_take(struct agent *a, const struct container *c)
{
    struct warm_pool *pool = warm_pool_of(a->warm, &c->record);
    struct container *best = NULL;

    if (!pool || !c->record.ramdisk)
        return NULL;
    if (clock_mono_ms() < pool->claims_from_ms) {
        pool->missed++;
        return NULL;
    }
    for (size_t i = 0; i < a->container_count; i++) {
        struct container *s = a->containers[i];

        if (warm_is_ready(a->warm, s) && warm_pool_of(a->warm, &s->record) == pool &&
            (!best || s->record.created_at < best->record.created_at))
            best = s;
    }
    *(best ? &pool->claimed : &pool->missed) += 1;
    return best;
}

void warm_claimed(const struct agent *a, const struct container *c, const struct err *e)
{
    struct warm_pool *pool = warm_pool_of(a->warm, &c->record);

    if (!pool)
        return;
    pool->claim_failures = e ? MIN(pool->claim_failures + 1, WARM_RETRY_TIMES) : 0;
    pool->claims_from_ms = e ? clock_mono_ms() + ((int64_t)WARM_RETRY_MS << pool->claim_failures) : 0;
    pool->failed += e != NULL;
    str_set(&pool->claim_error, e ? err_message(e) : NULL);
}
