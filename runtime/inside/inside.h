/* SPDX-License-Identifier: Apache-2.0 */
/* Work inside a running container, as its own root and under limits: a bug in it, fed by a hostile container, gives
 * that container nothing that it does not have. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "runtime/job.h"

/* Runs in all namespaces of the container and ends by returning. */
typedef void inside_fn(void *arg);

/* Runs fn inside, with these capabilities (bits of CAP_...) of the container's user namespace, for at most patience_ms;
 * *ret gets an object of what it told. ERR_WRONG_STATE when the container does not run. */
MUST_USE struct err *inside_ask(const struct job *job, inside_fn *fn, void *arg, uint32_t capabilities,
                                int64_t patience_ms, json_t **ret);
/* For fn: a member of the answer; part is taken over. */
void inside_tell(const char *name, json_t *part);
/* For fn: gives up all others. */
bool inside_keep_capabilities(uint32_t wanted);
