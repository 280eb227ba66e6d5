/* SPDX-License-Identifier: Apache-2.0 */
/* Arguments of the operation: "member", "before" (its value, or null), "event", "payload". */
#include "agent/containers/host_setting.h"

#include "agent/events/event.h"
#include "agent/operations/steps.h"
#include "base/str.h"

/* What the reply needs; of the request, so not in the intent. */
struct answer {
    int status;
    const char *message;
    json_t *(*report)(const struct container *c);
};

const json_t *host_setting_get(const struct container *c, const char *member)
{
    return json_object_get(c->record.host, member);
}

/* value NULL or null: the member goes. */
static void put(struct container *c, const char *member, json_t *value)
{
    if (!c->record.host)
        c->record.host = json_object();
    if (value && !json_is_null(value))
        json_object_set(c->record.host, member, value);
    else
        json_object_del(c->record.host, member);
}

static void put_back(struct operation *op)
{
    put(op->container, op_arg(op, "member"), json_object_get(op->args, "before"));
}

static void changed(struct operation *op, struct store_tx *tx)
{
    event_add(op->agent, tx, op_arg(op, "event"), op->container, json_incref(json_object_get(op->args, "payload")));
}

static void refused(struct operation *op, struct store_tx *tx)
{
    put_back(op);
    record_put(tx, op->container);
}

static void set_disk(struct operation *op, const json_t *limits, const json_t *other)
{
    const struct job_disk args = {.bytes = json_integer_value(json_object_get(limits, "disk"))};

    if (!str_eq(op_arg(op, "member"), "limits") || args.bytes == json_integer_value(json_object_get(other, "disk")))
        op_step_done(op, NULL);
    else
        step_job(op, JOB_DISK, &args);
}

static void disk(struct operation *op)
{
    set_disk(op, host_setting_get(op->container, "limits"), json_object_get(op->args, "before"));
}

static void disk_back(struct operation *op)
{
    set_disk(op, json_object_get(op->args, "before"), host_setting_get(op->container, "limits"));
}

static const struct op_step steps[] = {{0, "disk", disk, disk_back}, {1, "rules", step_net_rules, NULL}};

const struct op_kind op_host = {
    .name = "host-setting",
    .command = "setting",
    .steps = steps,
    .step_count = ARRAY_LEN(steps),
    .recovery = OP_REDO,
    .status_during = -1,
    .succeed = changed,
    .fail = refused,
};

static void done(struct operation *op, struct err *e)
{
    struct answer *answer = op->owner;

    if (e && op->stage < 0) /* the intent was not recorded */
        put_back(op);
    if (e)
        reply_host_err(op->req, e);
    else
        reply_ok(op->req, answer->status, answer->message, answer->report(op->container));
    free(answer);
}

void host_setting_change(struct api_call *call, const struct host_change *change)
{
    struct container *c = call->container;
    struct store_tx *tx;
    struct answer *answer;
    struct operation *op;
    struct err *e = operation_check_free(c, "change of a setting");

    if (e) {
        json_decref(change->value);
        json_decref(change->payload);
        reply_err(call->req, e);
        return;
    }
    op = operation_new(call->agent, &op_host, c,
                       json_pack("{s:s, s:O?, s:s, s:o?}", "member", change->member, "before",
                                 host_setting_get(c, change->member), "event", change->event, "payload",
                                 change->payload),
                       "user");
    answer = mem_new(struct answer);
    *answer = (struct answer){change->status, change->message, change->report};
    op->owner = answer;
    op->req = call->req;
    op->done = done;
    put(c, change->member, change->value);
    json_decref(change->value);
    tx = store_tx_new();
    record_put(tx, c);
    operation_start(op, tx);
}
