/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/storage/reclaim.h"
#include "agent/ticker.h"

#include "agent/storage/space.h"
#include "base/log.h"

#define PERIOD_MS 2000
/* The kernel's cleaner works off what it has at each commit, every 30 s at the latest. */
#define AT_A_TIME 64

struct reclaim {
    struct agent *agent;
    struct ticker ticker;
    int64_t waiting; /* what the node deleted: in the trash, and being destroyed, as last seen */
    json_t *ours;    /* ids of the latter */
    bool working, failed;
};

static void on_timer(uv_timer_t *timer);

static void soon(struct reclaim *r)
{
    if (!r->working && !r->agent->stopping && !uv_is_active((uv_handle_t *)&r->ticker.timer))
        uv_timer_start(&r->ticker.timer, on_timer, PERIOD_MS, 0);
}

static void on_done(void *owner, struct err *e, json_t *result)
{
    struct reclaim *r = owner;
    const char *problem = e ? err_message(e) : json_string_value(json_object_get(result, "problem"));

    r->working = false;
    if (problem && !r->failed) /* once: it is tried every two seconds */
        log_warning(NULL, "something deleted cannot be destroyed yet: %s", problem);
    r->failed = problem != NULL;
    if (!e) {
        json_decref(r->ours);
        r->ours = json_incref(json_object_get(result, "ours"));
        r->waiting = (int64_t)json_array_size(r->ours) + json_integer_value(json_object_get(result, "trash"));
    }
    err_free(e);
    json_decref(result);
    if (r->waiting || r->failed)
        soon(r);
}

static void on_timer(uv_timer_t *timer)
{
    struct reclaim *r = timer->data;
    const struct job_reclaim args = {.most = space_state(r->agent) == SPACE_OK ? AT_A_TIME : INT64_MAX,
                                     .ours = r->ours};

    if (r->agent->stopping)
        return;
    r->working = true;
    agent_job(r->agent, JOB_RECLAIM, 0, &args, 0, r, on_done);
}

void reclaim_job_ended(struct reclaim *r, enum job_kind kind)
{
    if (kind != JOB_RECLAIM && kind != JOB_USAGE && kind != JOB_LOOK && kind != JOB_SCRUB)
        soon(r);
}

struct err *reclaim_check(const struct agent *a)
{
    if (!a->reclaim || a->reclaim->waiting <= a->config->reclaim_max)
        return NULL;
    return err_reason(err_new(ERR_HOST,
                              "%lld deleted subvolumes wait to be reclaimed, more than storage.reclaim_max: the pool "
                              "does not keep up; try again in some minutes",
                              (long long)a->reclaim->waiting),
                      "CONTAINER_HOST_COMMAND_FAILED");
}

int64_t reclaim_destroyed(const struct agent *a)
{
    return a->reclaim ? (int64_t)json_array_size(a->reclaim->ours) : 0;
}

static void reclaim_free(void *p)
{
    struct reclaim *r = p;

    json_decref(r->ours);
    free(r);
}

struct reclaim *reclaim_start(struct agent *a)
{
    struct reclaim *r = mem_new(struct reclaim);

    r->agent = a;
    ticker_init(&r->ticker, a->loop, r);
    soon(r);
    return r;
}

void reclaim_close(struct reclaim *r, void *owner, void (*closed)(void *owner))
{
    ticker_close(&r->ticker, reclaim_free, owner, closed);
}
