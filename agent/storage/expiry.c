/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/storage/expiry.h"
#include "agent/ticker.h"

#include "agent/containers/share.h"
#include "agent/images/set.h"
#include "agent/operations/operation.h"
#include "base/clock.h"

enum { PERIOD_MS = 60000 };

struct expiry {
    struct agent *agent;
    struct ticker ticker;
};

static struct snapshot *expired(const struct container *c, int64_t now)
{
    for (size_t i = 0; i < c->snapshot_count; i++)
        if (c->snapshots[i]->expires_at > 0 && c->snapshots[i]->expires_at <= now)
            return c->snapshots[i];
    return NULL;
}

/* One at a time per container; what is busy now is looked at again in a minute. */
static void on_timer(uv_timer_t *timer)
{
    struct agent *a = ((struct expiry *)timer->data)->agent;
    int64_t now = clock_wall_ms();

    if (!a->stopping)
        shares_expire(a);
    if (!a->stopping && a->config->images_keep_days > 0)
        json_decref(images_prune(a, a->config->images_keep_days));
    for (size_t i = 0; i < a->container_count && !a->stopping; i++) {
        struct container *c = a->containers[i];
        const struct snapshot *s = c->op || c->copies ? NULL : expired(c, now);

        if (s)
            operation_start(operation_new(a, &op_snapshot_delete, c, json_pack("{s:s}", "name", s->name), "expiry"),
                            NULL);
    }
}

struct expiry *expiry_start(struct agent *a)
{
    struct expiry *x = mem_new(struct expiry);

    x->agent = a;
    ticker_init(&x->ticker, a->loop, x);
    uv_timer_start(&x->ticker.timer, on_timer, PERIOD_MS, PERIOD_MS);
    return x;
}

void expiry_close(struct expiry *x, void *owner, void (*closed)(void *owner))
{
    ticker_close(&x->ticker, free, owner, closed);
}
