/* SPDX-License-Identifier: Apache-2.0 */
/* Export and import of containers as one file, for the operator. */
#include "agent/transfer/archive.h"
#include "agent/api/api.h"
#include "agent/containers/project.h"
#include "agent/containers/snapshots.h"
#include "agent/transfer/download.h"
#include "base/str.h"
#include "images/image.h"

static void on_exported(void *owner, const struct err *e)
{
    struct container *c = owner;

    (void)e;
    c->copies--;
}

static struct err *check_export(const struct api_call *call, struct snapshot **ret_only, bool *ret_snapshots,
                                bool *ret_stream)
{
    const struct container *c = call->container;
    const char *name = http_query(call->req, "snapshot"), *format = http_query(call->req, "format");
    struct err *e = query_bool(call, "snapshots", ret_snapshots);

    *ret_stream = str_eq(format, "stream");
    if (!e && format && !*ret_stream && !str_eq(format, "tar"))
        e = err_field("format", "must be 'tar' or 'stream'");
    if (!e)
        e = operation_check_free(c, "export");
    if (!e && c->record.status != CONTAINER_STOPPED && !container_is_up(c))
        e = err_reason(err_new(ERR_CONFLICT, "The container is %s", container_status_word(c)),
                       "OPERATION_STATE_CONFLICT");
    if (!e && name)
        e = snapshot_find(c, "snapshot", name, ret_only);
    return e ? e : snapshot_check_present(*ret_only);
}

void container_export(struct api_call *call)
{
    struct container *c = call->container;
    struct snapshot *only = NULL;
    struct job_export args = {0};
    bool snapshots = false;
    struct err *e = check_export(call, &only, &snapshots, &args.as_stream);

    if (e) {
        reply_err(call->req, e);
        return;
    }
    args.snapshot = only ? only->name : NULL;
    args.header = archive_header(call->agent, c, only, snapshots);
    c->copies++; /* nothing of it is deleted meanwhile */
    download_start(call->agent, call->req, args.as_stream ? "application/vnd.noded.container" : "application/zstd",
                   JOB_EXPORT, c->record.slot, &args, c, on_exported);
    json_decref(args.header);
}

struct refusal {
    struct http_request *req;
    struct err *error;
};

static void answer_refusal(struct refusal *r)
{
    struct err *e = r->error;

    if (e->code == ERR_INVALID || e->code == ERR_TOO_LARGE)
        reply_err(r->req, err_reason(e, "IMPORT_REFUSED"));
    else
        reply_host_err(r->req, e);
    free(r);
}

/* Nothing of it is left; when that failed the container says so itself. */
static void on_removed(struct operation *op, struct err *e)
{
    err_free(e);
    answer_refusal(op->owner);
}

static void finished(struct operation *op, struct err *e)
{
    struct operation *removal;
    struct refusal *refusal;

    if (!e) {
        reply_ok(op->req, 201, "Container imported successfully", container_to_json(op->agent, op->container));
        return;
    }
    refusal = mem_new(struct refusal);
    *refusal = (struct refusal){op->req, e};
    if (op->stage < 0) { /* nothing is recorded */
        answer_refusal(refusal);
        return;
    }
    removal = operation_new(op->agent, &op_delete, op->container, NULL, "system");
    removal->owner = refusal;
    removal->done = on_removed;
    operation_start(removal, NULL);
}

static struct err *check_import(const struct api_call *call, const char *id, const char *name)
{
    struct err *e = NULL;

    if (id && !str_is_object_id(id))
        e = err_field("id", "must be 24 lower case hex digits");
    if (!e && id && agent_find(call->agent, id))
        e = err_reason(err_new(ERR_CONFLICT, "id: there is a container with this id"), "RESOURCE_IN_USE");
    if (!e && name && !api_is_container_name(name))
        e = err_reason(err_field("name", "must be 3..100 letters, digits, '-' and '_'"), "INVALID_CONTAINER_NAME");
    if (!e)
        e = project_check_enter(call->agent, "project_id", call->params[0]);
    return e ? e : api_check_new(call->agent, call->params[0], name ? name : "", NULL);
}

void container_import(struct api_call *call)
{
    const char *id = http_query(call->req, "id"), *name = http_query(call->req, "name");
    struct container *c = NULL;
    struct operation *op;
    struct store_tx *tx;
    struct err *e = check_import(call, id, name);

    if (!e)
        e = api_new_container(call->agent, id, call->params[0], name, &c);
    if (e) {
        reply_err(call->req, e);
        return;
    }
    c->record.status = CONTAINER_CREATING;
    c->record.wanted_running = false; /* until somebody starts it */
    c->record.base = -1;              /* it shares no tree with a base of its image */
    c->record.color = str_dup("#808080");
    c->record.image = image_name_canonical(call->agent->config->default_image); /* until the archive says */
    agent_add(call->agent, c);
    tx = store_tx_new();
    project_record(call->agent, c->record.project_id, tx);
    op = operation_new(call->agent, &op_import, c, json_pack("{s:b}", "rename", !name), "user");
    op->req = call->req;
    op->done = finished;
    operation_start(op, tx);
}
