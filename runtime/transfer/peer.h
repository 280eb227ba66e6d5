/* SPDX-License-Identifier: Apache-2.0 */
/* Between nodes; what they send each other of a container is in sets.h. */
#pragma once

#include "runtime/job.h"

#define PEER_OTHER "the other node" /* for messages */

/* A connection to the node that `peer` (a struct job_peer in JSON) says. */
MUST_USE struct err *peer_connect(const struct job *job, const json_t *peer, int *ret_fd);
