/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/environment.h"

#include "agent/operation.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"

struct apply {
    struct agent *agent;
    char *container_id; /* it may be deleted meanwhile */
    int64_t revision;
    void *owner;
    agent_done_fn *done;
};

bool environment_is_pending(const struct container *c)
{
    return c->record.env_revision != c->record.env_applied_revision;
}

static void end(void *arg, struct err *e)
{
    struct apply *ap = arg;

    ap->done(ap->owner, e);
    free(ap->container_id);
    free(ap);
}

static void on_written(void *arg, struct err *e, json_t *result)
{
    struct apply *ap = arg;
    struct container *c = agent_find(ap->agent, ap->container_id);
    struct store_tx *tx = store_tx_new();

    json_decref(result);
    if (c) {
        c->record.env_attempted_at = clock_wall_ms();
        str_set(&c->record.env_last_error, e ? "ENV_APPLY_FAILED" : NULL);
        if (!e) {
            c->record.env_applied_revision = ap->revision;
            c->record.env_verified_at = c->record.env_attempted_at;
        }
        record_put(tx, c);
    }
    log_err(NULL, LOG_LEVEL_WARNING, e, "the environment of a container is not written, retrying later");
    agent_commit(ap->agent, tx, ap, end);
}

/* Whether the root file system is in the making. */
static bool held_off(const struct container *c)
{
    const struct op_kind *k = c->op ? c->op->kind : NULL;

    return k && (k == &op_create || k == &op_copy || k == &op_restore || k == &op_sync || k == &op_delete);
}

void environment_apply(struct agent *a, struct container *c, void *owner, agent_done_fn *done)
{
    const struct job_env args = {.environment = c->record.environment};
    struct apply *ap = mem_new(struct apply);

    *ap = (struct apply){.agent = a,
                         .container_id = str_dup(c->record.id),
                         .revision = c->record.env_revision,
                         .owner = owner,
                         .done = done};
    if (held_off(c))
        agent_commit(a, store_tx_new(), ap, end);
    else
        agent_job(a, JOB_ENV_WRITE, c->record.slot, &args, 0, ap, on_written);
}

static void on_retried(void *owner, struct err *e)
{
    (void)owner;
    log_err(NULL, LOG_LEVEL_WARNING, e, "the environment of a container is not recorded as written");
}

void environment_retry(struct agent *a, struct container *c)
{
    bool has_root = c->record.status == CONTAINER_RUNNING || c->record.status == CONTAINER_PAUSED ||
                    c->record.status == CONTAINER_STOPPED;

    if (has_root && !c->op && !a->stopping && environment_is_pending(c))
        environment_apply(a, c, NULL, on_retried);
}
