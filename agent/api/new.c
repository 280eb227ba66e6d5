/* SPDX-License-Identifier: Apache-2.0 */
/* What create and copy have in common. */
#include "agent/api/api.h"
#include "agent/containers/project.h"
#include "agent/storage/space.h"
#include "agent/warm/warm.h"
#include "base/clock.h"
#include "base/id.h"
#include "base/str.h"

struct err *api_check_new(const struct agent *a, const char *project_id, const char *name, const char *ssh_key)
{
    if (agent_find_by_name(a, project_id, name))
        return err_reason(err_new(ERR_CONFLICT, "Container name already in use within the project"),
                          "CONTAINER_NAME_IN_USE");
    if (agent_find_by_ssh_key(a, ssh_key))
        return err_reason(err_new(ERR_CONFLICT, "SSH public key already in use"), "SSH_PUBLIC_KEY_IN_USE");
    return NULL;
}

struct err *api_new_container(struct agent *a, const char *id, const char *project_id, const char *name,
                              struct container **ret)
{
    auto_(container_free) struct container *c = container_new();
    struct container_record *r = &c->record;
    char minted[ID_OPERATION_LEN + 1];
    struct err *e = space_check(a);

    if (!e && id && agent_find_any(a, id))
        e = err_reason(err_new(ERR_CONFLICT, "id: there is a container with this id"), "RESOURCE_IN_USE");
    if (!e)
        e = agent_free_slot(a, &r->slot);
    if (e)
        return e;
    id_object(minted);
    r->id = str_dup(id ? id : minted);
    id_operation(minted);
    r->machine_id = str_dup(minted);
    r->project_id = str_dup(project_id);
    r->name = name ? str_dup(name) : str_fmt("container-%.8s", r->id + 16);
    while (!name && agent_find_by_name(a, project_id, r->name)) {
        id_object(minted);
        free(r->name);
        r->name = str_fmt("container-%.8s", minted);
    }
    r->hostname = str_host_label(r->name);
    r->environment = json_object();
    r->realm_ids = json_array();
    r->kits = json_array();
    r->created_at = r->updated_at = clock_wall_ms();
    r->wanted_running = true;
    c->link_down = true; /* until net_up */
    *ret = steal(&c);
    return NULL;
}

struct err *api_check_new_name(char **name)
{
    if (!*name || str_eq(*name, "rand")) {
        str_set(name, NULL);
        return NULL;
    }
    if (!api_is_container_name(*name))
        return err_reason(err_field("name", "must be 3..100 letters, digits, '-' and '_'"), "INVALID_CONTAINER_NAME");
    return NULL;
}

struct err *api_check_server(const struct agent *a, const char *field, const char *id)
{
    if (!id || str_eq(id, a->node_id) || str_eq(id, "self"))
        return NULL;
    return err_reason(
        err_new(ERR_NOT_FOUND, "%s: this node is server %s and has no other of that id", field, a->node_id),
        "RESOURCE_NOT_FOUND");
}

static void accepted(struct operation *op)
{
    json_t *j = container_to_json(op->agent, op->container);

    if (op->kind == &op_copy) {
        json_object_set(j, "copy_firewall_rules", json_object_get(op->args, "copy_firewall_rules"));
        json_object_set(j, "copy_network_rules", json_object_get(op->args, "copy_network_rules"));
    }

    json_object_set_new(j, "operation_id", json_string(op->id));
    reply_ok(op->req, 201,
             op->kind == &op_copy ? "Container copy initiated successfully" : "Container created successfully", j);
    op->req = NULL;
}

static void finished(struct operation *op, struct err *e)
{
    claim_over(op);
    if (!op->req) {
        err_free(e); /* the client has its answer; the log and the status log have the error */
        return;
    }
    if (!e) {
        accepted(op);
        return;
    }
    if (op->stage < 0 && op->kind != &op_copy)
        e = err_reason(err_recode(e, ERR_INTERNAL), "CONTAINER_CREATE_DISPATCH_FAILED"); /* nothing of it is recorded */
    reply_host_err(op->req, e);
}

void api_start_new(struct api_call *call, struct operation *op, struct store_tx *tx)
{
    project_record(call->agent, op->container->record.project_id, tx);
    op->req = call->req;
    op->accepted = query_true(call, "wait") ? NULL : accepted;
    op->done = finished;
    operation_start(op, tx);
}
