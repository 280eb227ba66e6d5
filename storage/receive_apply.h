/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A send stream becomes files below one directory. Every path of the stream is resolved below it and without symbolic
 * links, the last part of it is never followed; nobody else may change the directory meanwhile. Whoever calls this has
 * given up his other rights before (receive.c): the stream may be anybody's.
 */
#pragma once

#include "storage/receive_attribute.h"
#include "storage/send_format.h"

struct receive_apply {
    int root;   /* the fresh subvolume */
    int parent; /* what the stream is the difference to; -1: nothing, the subvolume is empty */
    send_read_fn *read;
    void *owner;
    unsigned char uuid[SEND_UUID_SIZE]; /* set: what the sender calls this subvolume, */
    uint64_t transid;                   /* and its state */

    struct send_command command;
    unsigned char parent_uuid[SEND_UUID_SIZE];
    struct receive_inherited inherited;
    int file; /* the one that was written last, or -1 */
    char *file_path;
};

/* Applies a whole stream. ERR_INVALID: it is wrong, or wants what is not allowed: devices other than those that every
 * container has, owners outside a container's 65536, attributes of the system. A file's wish to be compressed is
 * applied where this kernel takes it, and the labels that a host's security module gave the files are left out. */
MUST_USE struct err *receive_apply(struct receive_apply *a);
