/* SPDX-License-Identifier: Apache-2.0 */
/* The end of an operation: what it leaves in the record, the status log, the events and the journal. For operation.c.
 */
#pragma once

#include "agent/operations/operation.h"
#include "base/log.h"

/* All steps are over, or unwound: the outcome and the end of the intent are one transaction, then op_release. */
void op_conclude(struct operation *op);
/* Lets the container go, answers who waits, frees op. e (owned): why nothing of it is recorded; NULL: it came to an
 * end. */
void op_release(struct operation *op, struct err *e);
/* What the status log says of it: command, time of each step, error. */
json_t *op_log_metadata(const struct operation *op);
struct log_ctx op_ctx(const struct operation *op);
