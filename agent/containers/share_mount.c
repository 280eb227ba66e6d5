/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Mounts of shares: one job of a container at a time makes them agree with the records. What changes meanwhile, or
 * while an operation holds the container, marks it stale, and then it is done again.
 */
#include "agent/containers/share.h"
#include "base/failpoint.h"
#include "base/log.h"
#include "base/str.h"

struct refresh {
    struct agent *agent;
    char *container_id; /* it may be deleted meanwhile */
};

json_t *share_mounts_wanted(const struct agent *a, const struct container *c)
{
    json_t *list = json_array();

    for (size_t i = 0; i < a->share_count; i++) {
        const struct share *s = a->shares[i];
        const struct container *source = agent_find(a, s->source_container_id);

        if (source && s->enabled && share_is_wanted_by(s, c) && share_is_incoming(a, s, c))
            json_array_append_new(list, json_pack("{s:s, s:I, s:s, s:b}", "id", s->id, "source_slot",
                                                  (json_int_t)source->record.slot, "path", s->source_path, "readonly",
                                                  s->mode == SHARE_READONLY));
    }
    return list;
}

static void take_problems(struct agent *a, const struct container *c, const json_t *problems)
{
    for (size_t i = 0; i < a->share_count; i++) {
        struct share *s = a->shares[i];
        json_t *problem = json_object_get(problems, s->id);

        if (problem)
            json_object_set(s->problems, c->record.id, problem);
        else if (share_is_for(s, c))
            json_object_del(s->problems, c->record.id);
    }
}

static void refresh(struct agent *a, struct container *c);

static void on_done(void *owner, struct err *e, json_t *result)
{
    struct refresh *r = owner;
    struct container *c = agent_find(r->agent, r->container_id);

    if (c)
        share_mounts_end(r->agent, c, e ? NULL : json_object_get(result, "problems"));
    log_err(NULL, LOG_LEVEL_WARNING, e, "the shares of a container are not mounted");
    json_decref(result);
    free(r->container_id);
    free(r);
}

static void refresh(struct agent *a, struct container *c)
{
    struct job_shares args = {.id_base = a->config->id_base + (c->record.slot - 1) * 65536};
    struct refresh *r;
    struct err *e;

    c->shares_stale = c->op || c->shares_busy;
    if (c->shares_stale || !container_is_up(c) || a->stopping)
        return;
    e = failpoint("share.refresh");
    if (e) {
        log_err(NULL, LOG_LEVEL_WARNING, e, "the shares of a container are not mounted");
        return;
    }
    args.shares = share_mounts_wanted(a, c);
    r = mem_new(struct refresh);
    *r = (struct refresh){.agent = a, .container_id = str_dup(c->record.id)};
    c->shares_busy = true;
    agent_job(a, JOB_SHARES, c->record.slot, &args, 0, r, on_done);
    json_decref(args.shares);
}

json_t *share_mounts_begin(const struct agent *a, struct container *c)
{
    if (c->shares_busy)
        return NULL;
    c->shares_busy = true;
    return share_mounts_wanted(a, c);
}

void share_mounts_end(struct agent *a, struct container *c, const json_t *problems)
{
    c->shares_busy = false;
    if (problems)
        take_problems(a, c, problems);
    if (c->shares_stale)
        refresh(a, c);
}

void share_mounts_mark(struct agent *a, const struct share *s)
{
    for (size_t i = 0; i < a->container_count; i++)
        if (share_is_for(s, a->containers[i]))
            a->containers[i]->shares_stale = true;
}

void share_mounts_refresh(struct agent *a)
{
    for (size_t i = 0; i < a->container_count; i++)
        if (a->containers[i]->shares_stale)
            refresh(a, a->containers[i]);
}

void share_mounts_after_operation(struct agent *a, struct container *c, bool new_root)
{
    for (size_t i = 0; i < a->share_count; i++) {
        /* Receivers have the root file system of before. */
        if (new_root && str_eq(a->shares[i]->source_container_id, c->record.id))
            share_mounts_mark(a, a->shares[i]);
        /* It may have started: the start mounted them, this learns with what success. */
        if (share_is_for(a->shares[i], c))
            c->shares_stale = true;
    }
}

void share_mounts_adopt(struct agent *a, struct container *c, bool has_mounts)
{
    c->shares_stale = has_mounts;
    share_mounts_after_operation(a, c, false);
}
