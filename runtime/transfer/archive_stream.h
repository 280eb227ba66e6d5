/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A container as one file of the kind "stream": what btrfs says of its subvolumes, each snapshot the difference to the
 * one before: nothing is left out, and snapshots take the room of what they changed.
 *
 *   STREAM_MAGIC                 eight bytes
 *   {"header": {...}}            noded.json of the other kind (provisioning/container_archive.h)
 *   sets                         of the snapshots that the header names, in its order, and the root file system
 * (sets.h)
 *   {"end": {"streams", "digest"}}   SHA-256 of all frames, each in the form of JSON that is sorted and has no blanks,
 * and of the checksums of all runs
 *
 * The frames are those of transfer/wire.h, pieces may be packed. Nothing follows the end.
 */
#pragma once

#include "runtime/job.h"

#define STREAM_MAGIC "\x8Enoded1\n"
enum { STREAM_MAGIC_LEN = 8 };

MUST_USE struct err *stream_export(const struct job *job, const struct job_export *args, json_t **ret);
/* Whether what comes by this socket begins as such a file; waits for its first byte, and takes nothing. */
bool stream_is_one(int fd);
/* bytes_max: of what it may unpack to. */
MUST_USE struct err *stream_import(const struct job *job, const struct job_import *args, int64_t bytes_max,
                                   json_t **ret);
