/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/api/api.h"
#include "agent/warm/internal.h"

static json_t *bytes(int64_t n)
{
    return n > 0 ? json_integer((json_int_t)n) : json_null();
}

static json_t *spare_to_json(const struct warm *w, const struct container *c)
{
    char reason[WARM_REASON_SIZE];
    const char *state;

    warm_judge(w, c, reason);
    state = warm_is_leaving(c)    ? "leaving"
            : c->op               ? "starting"
            : reason[0]           ? "bad"
            : warm_is_ready(w, c) ? "ready"
                                  : "checking";
    return json_pack("{s:s, s:I, s:I, s:s, s:s?, s:o, s:o, s:o}", "id", c->record.id, "slot",
                     (json_int_t)c->record.slot, "init_pid", (json_int_t)c->init_pid, "state", state, "reason",
                     reason[0] ? reason : NULL, "created_at", api_time(c->record.created_at), "memory_booted_bytes",
                     bytes(c->spare_before), "memory_trimmed_bytes", bytes(c->spare_after));
}

static json_t *pool_to_json(const struct warm *w, const struct warm_pool *pool)
{
    const struct agent *a = w->agent;
    json_t *list = json_array();
    json_int_t ready = 0;

    for (size_t i = 0; i < a->container_count; i++) {
        const struct container *c = a->containers[i];

        if (!c->record.spare || warm_pool_of(w, &c->record) != pool)
            continue;
        ready += warm_is_ready(w, c);
        json_array_append_new(list, spare_to_json(w, c));
    }
    return json_pack("{s:s, s:b, s:b, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:s?, s:o}", "image", pool->want.image,
                     "hoody_kit", pool->want.hoody_kit, "dev_kit", pool->want.dev_kit, "low",
                     (json_int_t)pool->want.low, "high", (json_int_t)pool->want.high, "ready", ready, "made",
                     (json_int_t)pool->made, "claimed", (json_int_t)pool->claimed, "failed", (json_int_t)pool->failed,
                     "missed", (json_int_t)pool->missed, "replaced", (json_int_t)pool->replaced, "last_error",
                     pool->claim_error ? pool->claim_error : pool->error, "spares", list);
}

json_t *warm_report(const struct agent *a)
{
    const struct warm *w = a->warm;
    json_t *list = json_array();

    for (size_t i = 0; w && i < w->count; i++)
        json_array_append_new(list, pool_to_json(w, &w->pools[i]));
    return json_pack("{s:s?, s:o}", "waits", w ? w->waits : NULL, "pools", list);
}
