/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Mounts of shares: one job of a container at a time makes them agree with the records. What changes meanwhile, or
 * while an operation holds the container, marks it stale, and then it is done again. Each mark has a number, so that
 * who waits for one does not wait for later ones.
 */
#include "agent/containers/share.h"

#include "agent/containers/guest.h"
#include "base/failpoint.h"
#include "base/log.h"
#include "base/str.h"

struct refresh {
    struct agent *agent;
    char *container_id; /* it may be deleted meanwhile */
};

/* Somebody who waits until mounts agree with the records. */
struct share_wait {
    json_t *receivers; /* object of container id -> its shares_change of when the wait began */
    struct err *error;
    void *owner;
    agent_done_fn *done;
    struct share_wait *next;
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

static bool has_mounts(const struct container *c)
{
    return c->init_pid || c->starting || container_is_up(c);
}

static bool is_settled(const struct agent *a, const char *container_id, const json_t *change)
{
    const struct container *c = agent_find_any(a, container_id);

    return !c || !has_mounts(c) || c->shares_agreed >= json_integer_value(change);
}

static void drop_settled(const struct agent *a, struct share_wait *w)
{
    const char *id;
    json_t *change;
    void *next;

    json_object_foreach_safe(w->receivers, next, id, change) if (is_settled(a, id, change))
        json_object_del(w->receivers, id);
}

/* Lets those go who wait for nothing more. */
static void end_waits(struct agent *a)
{
    struct share_wait **at = &a->share_waits;

    while (*at) {
        struct share_wait *w = *at;

        drop_settled(a, w);
        if (json_object_size(w->receivers) > 0) {
            at = &w->next;
            continue;
        }
        *at = w->next;
        w->done(w->owner, w->error);
        json_decref(w->receivers);
        free(w);
    }
}

/* The mounts of c are not made to agree with its changes up to `change`, because of e. */
static void fail_waits(struct agent *a, const struct container *c, int64_t change, const struct err *e)
{
    for (struct share_wait *w = a->share_waits; w; w = w->next) {
        const json_t *of = json_object_get(w->receivers, c->record.id);

        if (!of || json_integer_value(of) > change)
            continue;
        w->error = err_first(w->error, err_new(e->code, "%s", err_message(e)));
        json_object_del(w->receivers, c->record.id);
    }
}

static void mark(struct container *c)
{
    c->shares_stale = true;
    c->shares_change++;
}

static void refresh(struct agent *a, struct container *c);

static void on_done(void *owner, struct err *e, json_t *result)
{
    struct refresh *r = owner;
    struct container *c = agent_find(r->agent, r->container_id);

    if (c && e)
        fail_waits(r->agent, c, c->shares_job, e);
    if (c)
        share_mounts_end(r->agent, c, e ? NULL : json_object_get(result, "problems"));
    if (c && e)
        c->shares_stale = true; /* for the next refresh */
    end_waits(r->agent);
    log_err(NULL, LOG_LEVEL_WARNING, e, "the shares of a container are not mounted");
    json_decref(result);
    free(r->container_id);
    free(r);
}

static struct err *check_refresh(const struct agent *a)
{
    if (a->stopping)
        return err_new(ERR_CANCELLED, "the node agent stops; its next start goes on");
    return failpoint("share.refresh");
}

static void refresh(struct agent *a, struct container *c)
{
    struct job_shares args = {.id_base = container_id_base(a->config, c)};
    struct refresh *r;
    struct err *e;

    c->shares_stale = guest_is_held(c) || c->shares_busy;
    if (c->shares_stale || !container_is_up(c))
        return;
    e = check_refresh(a);
    if (e) {
        fail_waits(a, c, c->shares_change, e);
        log_err(NULL, LOG_LEVEL_WARNING, e, "the shares of a container are not mounted");
        return;
    }
    args.shares = share_mounts_begin(a, c);
    r = mem_new(struct refresh);
    *r = (struct refresh){.agent = a, .container_id = str_dup(c->record.id)};
    agent_job(a, JOB_SHARES, c->record.slot, &args, 0, r, on_done);
    json_decref(args.shares);
}

json_t *share_mounts_begin(const struct agent *a, struct container *c)
{
    if (c->shares_busy)
        return NULL;
    c->shares_busy = true;
    c->shares_job = c->shares_change;
    return share_mounts_wanted(a, c);
}

void share_mounts_end(struct agent *a, struct container *c, const json_t *problems)
{
    c->shares_busy = false;
    if (problems) {
        take_problems(a, c, problems);
        c->shares_agreed = c->shares_job;
    }
    if (c->shares_stale)
        refresh(a, c);
    end_waits(a);
}

void share_mounts_mark(struct agent *a, const struct share *s)
{
    for (size_t i = 0; i < a->container_count; i++)
        if (share_is_for(s, a->containers[i]))
            mark(a->containers[i]);
}

void share_mounts_refresh(struct agent *a)
{
    for (size_t i = 0; i < a->container_count; i++)
        if (a->containers[i]->shares_stale)
            refresh(a, a->containers[i]);
    end_waits(a);
}

void share_mounts_settle(struct agent *a, const struct share *s, struct container *only, void *owner,
                         agent_done_fn *done)
{
    struct share_wait *w = mem_new(struct share_wait);

    *w = (struct share_wait){.receivers = json_object(), .owner = owner, .done = done, .next = a->share_waits};
    for (size_t i = 0; i < a->container_count; i++) {
        struct container *c = a->containers[i];

        if (only ? c != only : !share_is_for(s, c))
            continue;
        mark(c);
        json_object_set_new(w->receivers, c->record.id, json_integer(c->shares_change));
    }
    a->share_waits = w;
    share_mounts_refresh(a);
}

void share_mounts_after_operation(struct agent *a, struct container *c, bool new_root)
{
    for (size_t i = 0; i < a->share_count; i++) {
        /* Receivers have the root file system of before. */
        if (new_root && str_eq(a->shares[i]->source_container_id, c->record.id))
            share_mounts_mark(a, a->shares[i]);
        /* It may have started: the start mounted them, this learns with what success. */
        if (share_is_for(a->shares[i], c))
            mark(c);
    }
}

void share_mounts_adopt(struct agent *a, struct container *c, bool has_mounts)
{
    c->shares_stale = has_mounts;
    share_mounts_after_operation(a, c, false);
}
