/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/containers/project.h"
#include "agent/containers/share.h"
#include "agent/events/event.h"
#include "agent/operations/takeover.h"
#include "base/clock.h"
#include "base/failpoint.h"
#include "base/log.h"
#include "base/str.h"

/* One deletion under way. */
struct cascade {
    struct agent *agent;
    char *project_id;
    json_t *failed;    /* ids that could not be deleted, as keys */
    struct err *error; /* the first failure */
    bool held;         /* a commit of its own is under way */
    const char *triggered_by;
    void *owner;
    project_deleted_fn *done;
    struct cascade *next;
};

static struct cascade *find(const struct agent *a, const char *project_id)
{
    struct cascade *x = a->cascades;

    while (x && !str_eq(x->project_id, project_id))
        x = x->next;
    return x;
}

bool project_delete_running(const struct agent *a, const char *id)
{
    return find(a, id) != NULL;
}

static void end(struct cascade *x, struct err *e)
{
    struct cascade **at = &x->agent->cascades;

    while (*at != x)
        at = &(*at)->next;
    *at = x->next;
    x->done(x->owner, e);
    json_decref(x->failed);
    free(x->project_id);
    free(x);
}

static void on_row_gone(void *owner, struct err *e)
{
    struct cascade *x = owner;
    struct project *p = project_find(x->agent, x->project_id);

    if (!e && p)
        project_remove(x->agent, p);
    end(x, e);
}

static void drop_row(struct cascade *x)
{
    struct project *p = project_find(x->agent, x->project_id);
    struct err *e = failpoint("project.delete.commit");
    struct store_tx *tx;

    x->held = true;
    if (e) {
        end(x, e);
        return;
    }
    tx = store_tx_new();
    store_tx_add(tx, STORE_PROJECT_DELETE, json_pack("[s]", x->project_id));
    shares_project_gone(x->agent, tx, x->project_id);
    event_add_for(x->agent, tx, "project.deleted", "project", p->id, p->id, NULL, project_to_json(p));
    agent_commit(x->agent, tx, x, on_row_gone);
}

static void on_container_deleted(struct operation *op, struct err *e)
{
    struct cascade *x = find(op->agent, op->container->record.project_id);

    if (e && x) {
        json_object_set_new(x->failed, op->container->record.id, json_true());
        x->error = err_first(x->error, e);
    } else {
        err_free(e);
    }
}

/* Deletes what is free; ends when nothing is left that could still go. */
static void look(struct cascade *x)
{
    struct agent *a = x->agent;
    bool busy = false;

    if (x->held)
        return;
    for (size_t i = 0; i < a->container_count; i++) {
        struct container *c = a->containers[i];
        struct operation *op;

        if (!str_eq(c->record.project_id, x->project_id) || json_object_get(x->failed, c->record.id))
            continue;
        if (!c->op && !c->copies && a->stopping) {
            x->error = err_first(x->error, err_new(ERR_CANCELLED, "the node agent stops; its next start goes on"));
            continue;
        }
        busy = true;
        if (c->copies || (c->op && (a->stopping || !operation_gives_way(c))))
            continue;
        op = operation_new(a, &op_delete, c, NULL, x->triggered_by);
        op->done = on_container_deleted;
        operation_take_over(op);
    }
    if (busy)
        return;
    if (x->error)
        end(x, steal(&x->error));
    else
        drop_row(x);
}

void projects_after_operation(struct agent *a)
{
    for (struct cascade *x = a->cascades, *next; x; x = next) {
        next = x->next;
        look(x);
    }
}

static void on_marked(void *owner, struct err *e)
{
    struct cascade *x = owner;
    struct project *p = project_find(x->agent, x->project_id);

    if (e) {
        p->deleting = false;
        end(x, e);
        return;
    }
    x->held = false;
    e = failpoint("project.delete.intent");
    if (e)
        end(x, e);
    else
        look(x);
}

void project_delete(struct agent *a, struct project *p, const char *triggered_by, void *owner, project_deleted_fn *done)
{
    struct cascade *x = mem_new(struct cascade);
    struct store_tx *tx = store_tx_new();

    *x = (struct cascade){.agent = a, .failed = json_object(), .owner = owner, .done = done, .next = a->cascades};
    x->project_id = str_dup(p->id);
    x->held = true; /* nothing begins before the mark is on disk */
    x->triggered_by = triggered_by;
    a->cascades = x;
    p->deleting = true;
    p->updated_at = clock_wall_ms();
    record_put_project(tx, p);
    agent_commit(a, tx, x, on_marked);
}

static void on_resumed(void *owner, struct err *e)
{
    (void)owner;
    log_err(NULL, LOG_LEVEL_ERR, e, "the deletion of a project is not finished; the next start tries again");
}

void projects_resume(struct agent *a)
{
    for (size_t i = 0; i < a->project_count; i++)
        if (a->projects[i]->deleting)
            project_delete(a, a->projects[i], "recovery", NULL, on_resumed);
}
