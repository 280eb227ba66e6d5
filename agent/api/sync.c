/* SPDX-License-Identifier: Apache-2.0 */
/* POST /containers/{id}/sync (contract, section 2.1): the id is that of the copy. */
#include "agent/api/api.h"
#include "agent/storage/space.h"
#include "agent/transfer/peer.h"
#include "base/str.h"

static json_t *report(const struct operation *op)
{
    const struct container *c = op->container;

    return json_pack("{s:s, s:s, s:s, s:s}", "container_id", c->record.id, "source_container_id",
                     c->record.source_container_id, "status", container_status_word(c), "operation_id", op->id);
}

static void accepted(struct operation *op)
{
    reply_ok(op->req, 200, "Container sync initiated successfully", report(op));
    op->req = NULL;
}

static void finished(struct operation *op, struct err *e)
{
    if (!op->req)
        err_free(e); /* the client has its answer; the event and the status log have the error */
    else if (e)
        reply_host_err(op->req, e);
    else
        reply_ok(op->req, 200, "Container synchronised successfully", report(op));
}

static struct err *conflict(const char *reason, const char *message)
{
    return err_reason(err_new(ERR_CONFLICT, "%s", message), reason);
}

static struct err *check_state(const struct container *c, const char *message)
{
    if (c->record.status != CONTAINER_RUNNING && c->record.status != CONTAINER_STOPPED)
        return conflict("OPERATION_STATE_CONFLICT", message);
    return NULL;
}

static bool is_remote(const struct api_call *call, const struct container *c)
{
    return c->record.source_server_id && !str_eq(c->record.source_server_id, call->agent->node_id);
}

static struct err *check_remote(const struct api_call *call, const struct container *c)
{
    if (!peer_known(call->agent, c->record.source_server_id))
        return err_reason(err_new(ERR_NOT_FOUND, "The source is on server %s, which this node does not know",
                                  c->record.source_server_id),
                          "SOURCE_CONTAINER_NOT_FOUND");
    return check_state(c, "The container must be running or stopped");
}

static struct err *check(const struct api_call *call, struct container **source)
{
    const struct container *c = call->container;
    struct err *e;

    if (!c->record.source_container_id)
        return conflict("CONTAINER_NOT_COPIED", "Container was not created from a copy, sync is not possible.");
    e = container_check_staying(c);
    if (!e)
        e = operation_check_free(c, "sync");
    if (!e)
        e = container_check_unread(c);
    if (e || is_remote(call, c))
        return e ? e : check_remote(call, c);
    *source = agent_find(call->agent, c->record.source_container_id);
    if (!*source)
        return err_reason(err_new(ERR_NOT_FOUND, "The source container is gone"), "SOURCE_CONTAINER_NOT_FOUND");
    e = operation_check_free(*source, "sync");
    if (!e)
        e = check_state(c, "The container must be running or stopped");
    return e ? e : check_state(*source, "The source must be running or stopped");
}

void container_sync(struct api_call *call)
{
    struct container *c = call->container, *source = NULL;
    struct operation *op;
    struct err *e = check(call, &source);

    if (!e)
        e = space_check(call->agent);
    if (e) {
        reply_err(call->req, e);
        return;
    }
    op = operation_new(call->agent, &op_sync, c,
                       json_pack("{s:s, s:s*, s:b}", source ? "source" : "peer_source", c->record.source_container_id,
                                 "server", source ? NULL : c->record.source_server_id, "running", container_is_up(c)),
                       "user");
    op->source = source;
    op->req = call->req;
    op->accepted = query_true(call, "wait") ? NULL : accepted;
    op->done = finished;
    operation_start(op, NULL);
}
