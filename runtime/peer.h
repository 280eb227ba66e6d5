/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What two nodes send each other of a container (transfer/wire.h). A set is a subvolume with all that are nested in it;
 * the sets come in order, snapshots first, the root file system last:
 *
 *   {"stream": {"set": "snapshot"|"root", "name": of the snapshot or null, "path": "" or where it is nested,
 *               "readonly": bool, "parent": "none"|"image"|"base"|"previous"}}, then its bytes (storage/send.h)
 *   {"end": {"streams": how many}}
 *
 * parent is the set that the stream is the difference to; for a nested subvolume the one at the same path there.
 * "image" is the image that both have, "base" what the receiver said that it has, "previous" the set before.
 */
#pragma once

#include "runtime/job.h"

#define PEER_SET_SNAPSHOT "snapshot"
#define PEER_SET_ROOT "root"
#define PEER_NONE "none"
#define PEER_IMAGE "image"
#define PEER_BASE "base"
#define PEER_PREVIOUS "previous"

/* A connection to the node that `peer` (a struct job_peer in JSON) says. */
MUST_USE struct err *peer_connect(const struct job *job, const json_t *peer, int *ret_fd);
