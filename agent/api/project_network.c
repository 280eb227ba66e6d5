/* SPDX-License-Identifier: Apache-2.0 */
/* Whether the containers of a project may reach each other: recorded, applied to those that are up, then answered. When
 * the kernel refuses, the record goes back. */
#include "agent/api/api.h"
#include "agent/containers/project.h"
#include "agent/events/event.h"
#include "base/str.h"

struct body {
    bool inter_container;
};
static const struct json_field body_fields[] = {F_BOOL(struct body, inter_container, .required = true)};
static JSON_TABLE(body_table, NULL, body_fields);

struct change {
    struct agent *agent;
    struct http_request *req;
    char *id;         /* it may be deleted meanwhile */
    bool to, changes; /* not: only the kernel is made sure of */
    struct err *error;
};

static json_t *setting(const struct project *p)
{
    return json_pack("{s:s, s:b}", "project_id", p->id, "inter_container", p->inter_container);
}

static struct err *find(const struct api_call *call, struct project **ret)
{
    *ret = project_find(call->agent, call->params[0]);
    if (!*ret)
        return err_reason(err_new(ERR_NOT_FOUND, "Project not found"), "PROJECT_NOT_FOUND");
    return NULL;
}

static void change_end(struct change *ch)
{
    const struct project *p = project_find(ch->agent, ch->id);

    if (ch->error)
        reply_host_err(ch->req, ch->error);
    else if (p)
        reply_ok(ch->req, 200, "Project network updated successfully", setting(p));
    else
        reply_err(ch->req, err_reason(err_new(ERR_NOT_FOUND, "Project not found"), "PROJECT_NOT_FOUND"));
    free(ch->id);
    free(ch);
}

static void set(struct agent *a, struct project *p, bool to, struct store_tx *tx)
{
    p->inter_container = to;
    record_put_project(tx, p);
    event_add_for(a, tx, "project.network.updated", "project", p->id, p->id, NULL, setting(p));
}

static void on_put_back(void *owner, struct err *e)
{
    struct change *ch = owner;

    ch->error = err_first(ch->error, e);
    change_end(ch);
}

static void on_unrecorded(void *owner, struct err *e)
{
    struct change *ch = owner;

    ch->error = err_first(ch->error, e);
    net_project(ch->agent, ch->id, ch, on_put_back);
}

static void on_applied(void *owner, struct err *e)
{
    struct change *ch = owner;
    struct project *p = project_find(ch->agent, ch->id);
    struct store_tx *tx;

    if (!e || !p || !ch->changes || p->inter_container != ch->to) {
        ch->error = e;
        change_end(ch);
        return;
    }
    ch->error = e;
    tx = store_tx_new();
    set(ch->agent, p, !ch->to, tx);
    agent_commit(ch->agent, tx, ch, on_unrecorded);
}

static void on_recorded(void *owner, struct err *e)
{
    struct change *ch = owner;
    struct project *p = project_find(ch->agent, ch->id);

    if (!e) {
        net_project(ch->agent, ch->id, ch, on_applied);
        return;
    }
    if (p && p->inter_container == ch->to)
        p->inter_container = !ch->to;
    ch->error = e;
    change_end(ch);
}

void project_network_get(struct api_call *call)
{
    struct project *p;
    struct err *e = find(call, &p);

    if (e)
        reply_err(call->req, e);
    else
        reply_ok(call->req, 200, "Project network retrieved successfully", setting(p));
}

void project_network_set(struct api_call *call)
{
    struct body b = {0};
    struct project *p = NULL;
    struct change *ch;
    struct store_tx *tx;
    struct err *e = json_table_load(&body_table, call->body, &b, NULL);

    if (!e)
        e = find(call, &p);
    if (!e && p->deleting)
        e = err_reason(err_new(ERR_CONFLICT, "The project is being deleted"), "RESOURCE_IN_USE");
    if (!e && b.inter_container && !p->group)
        e = err_new(ERR_LIMIT, "inter_container: this server has too many projects for that");
    if (e) {
        reply_err(call->req, e);
        return;
    }
    ch = mem_new(struct change);
    *ch = (struct change){.agent = call->agent,
                          .req = call->req,
                          .id = str_dup(p->id),
                          .to = b.inter_container,
                          .changes = p->inter_container != b.inter_container};
    if (!ch->changes) {
        net_project(ch->agent, ch->id, ch, on_applied);
        return;
    }
    tx = store_tx_new();
    set(call->agent, p, ch->to, tx);
    agent_commit(call->agent, tx, ch, on_recorded);
}
