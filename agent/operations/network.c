/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Start, stop, change and removal of a running network configuration. What is wanted is recorded together with the
 * intent; the steps make the host so. In this order nothing leaks: a start is on record before it has any effect, and a
 * restart in between begins with what is on record.
 *
 * Arguments: "word" of the event, "from" (the state before), "remove".
 */
#include "agent/network/egress.h"
#include "agent/network/relay.h"
#include "agent/operations/steps.h"
#include "base/str.h"

static void applied(struct operation *op, struct store_tx *tx)
{
    struct container *c = op->container;
    const char *word = op_arg(op, "word");

    if (!c->egress)
        return; /* a repeated removal that was complete */
    /* A start that did not get to the proxy has been told of as failed. */
    if (!str_eq(word, "running") || str_eq(egress_status(c).word, word))
        egress_event(op->agent, tx, c, word);
    if (!json_is_true(json_object_get(op->args, "remove")))
        return;
    store_tx_add(tx, STORE_NETWORK_DELETE, json_pack("[s]", c->record.id));
    egress_free(c->egress);
    c->egress = NULL;
}

/* The kernel refused the rules, so it still has the old ones; the record goes back to them. When they were given up
 * after several starts of the node the record stays: the more closed state wins. */
static void refused(struct operation *op, struct store_tx *tx)
{
    struct container *c = op->container;

    if (!c->egress)
        return;
    if (op->attempt == 1)
        c->egress->record.state = (int)json_integer_value(json_object_get(op->args, "from"));
    egress_put(tx, c);
    egress_event(op->agent, tx, c, "failed");
}

static void on_relay(void *owner, struct err *e)
{
    op_step_done(owner, e);
}

static void relay(struct operation *op)
{
    relay_apply(op->agent, op->container);
    if (op->container->relay)
        relay_wait(op->container, op, on_relay);
    else
        op_step_done(op, NULL);
}

/* Rules first: a start is closed before there is a way. */
static const struct op_step steps[] = {{0, "rules", step_net_rules, NULL}, {1, "relay", relay, NULL}};

const struct op_kind op_network = {
    .name = "network",
    .steps = steps,
    .step_count = ARRAY_LEN(steps),
    .recovery = OP_REDO,
    .status_during = -1,
    .succeed = applied,
    .fail = refused,
};
