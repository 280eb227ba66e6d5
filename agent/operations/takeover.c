/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/operations/takeover.h"

#include <assert.h>

#include "agent/worker.h"
#include "base/str.h"

bool operation_gives_way(const struct container *c)
{
    return c->op && c->op->waits && !c->op->successor;
}

struct err *operation_check_takeover(const struct container *c, const char *what)
{
    return operation_gives_way(c) ? NULL : operation_check_free(c, what);
}

void operation_take_over(struct operation *op)
{
    struct operation *before = op->container->op;

    if (!before) {
        operation_start(op, NULL);
        return;
    }
    assert(operation_gives_way(op->container));
    op->took_over = true;
    before->successor = op;
    worker_hang_up(before->waits);
}

struct err *takeover_after_wait(struct operation *op, struct err *e)
{
    struct err *refusal;

    op->waits = NULL;
    if (!op->successor)
        return e;
    refusal = op_failpoint(op->successor, "takeover");
    if (refusal) {
        takeover_refuse(op, refusal);
        return e;
    }
    /* Also when the guest has ended in this moment: what goes on with it is the other one's from here. */
    err_ignore(e);
    return err_reason(err_new(ERR_CONFLICT, "The %s ended because %s took over", operation_command(op),
                              operation_command(op->successor)),
                      TAKEN_OVER);
}

void takeover_refuse(struct operation *op, struct err *e)
{
    struct operation *next = steal(&op->successor);

    next->container->record.status = next->from;
    next->done(next, e);
    json_decref(next->args);
    free(next);
}

char *operation_hint(const struct operation *op)
{
    if (op->successor)
        return str_fmt("%s is taking over", operation_command(op->successor));
    if (op->waits)
        return str_dup("It waits for the container to shut down: force-stop or delete ends that at once");
    return str_dup("It cannot be interrupted and ends by itself");
}
