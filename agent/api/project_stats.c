/* SPDX-License-Identifier: Apache-2.0 */
/* GET /projects/{id}/stats: the statistics of its containers, one after the other. */
#include "agent/api/api.h"
#include "agent/containers/project.h"
#include "agent/stats/stats.h"
#include "base/clock.h"
#include "base/str.h"

struct reading {
    struct agent *agent;
    struct http_request *req;
    char *project_id;
    json_t *ids; /* of its containers when it was asked */
    size_t next;
    json_t *stats;
    int64_t begun_us;
};

static void end(struct reading *r)
{
    json_decref(r->ids);
    json_decref(r->stats);
    free(r->project_id);
    free(r);
}

static void answer(struct reading *r)
{
    const struct project *p = project_find(r->agent, r->project_id);
    autofree char *time = str_fmt("%lldms", (long long)((clock_mono_us() - r->begun_us) / 1000));

    if (p)
        reply_ok(r->req, 200, "Project stats retrieved successfully",
                 json_pack("{s:O, s:{s:s, s:s, s:I, s:s}}", "stats", r->stats, "summary", "project_id", p->id,
                           "project_name", p->alias, "container_count", (json_int_t)json_array_size(r->stats),
                           "total_processing_time", time));
    else
        reply_err(r->req, err_reason(err_new(ERR_NOT_FOUND, "Project not found"), "PROJECT_NOT_FOUND"));
    end(r);
}

static void on_read(void *owner, struct err *e, json_t *stats);

/* One that is gone by now is left out. */
static void read_next(struct reading *r)
{
    const struct container *c = NULL;

    while (!c && r->next < json_array_size(r->ids))
        c = agent_find(r->agent, json_string_value(json_array_get(r->ids, r->next++)));
    if (c)
        stats_read(r->agent, c, r, on_read);
    else
        answer(r);
}

static void on_read(void *owner, struct err *e, json_t *stats)
{
    struct reading *r = owner;

    if (e && e->code != ERR_NOT_FOUND) {
        reply_host_err(r->req, e);
        end(r);
        return;
    }
    err_free(e);
    if (stats)
        json_array_append_new(r->stats, stats);
    read_next(r);
}

void projects_stats(struct api_call *call)
{
    struct agent *a = call->agent;
    struct reading *r;

    if (!project_find(a, call->params[0])) {
        reply_err(call->req, err_reason(err_new(ERR_NOT_FOUND, "Project not found"), "PROJECT_NOT_FOUND"));
        return;
    }
    r = mem_new(struct reading);
    *r = (struct reading){
        .agent = a, .req = call->req, .ids = json_array(), .stats = json_array(), .begun_us = clock_mono_us()};
    r->project_id = str_dup(call->params[0]);
    for (size_t i = 0; i < a->container_count; i++)
        if (str_eq(a->containers[i]->record.project_id, r->project_id))
            json_array_append_new(r->ids, json_string(a->containers[i]->record.id));
    read_next(r);
}
