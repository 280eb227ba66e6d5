/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What this host does for a container beyond the platform's own routes, such as forwards: members of record.host. A
 * change of one is an operation: it is recorded together with the intent, then the rules follow; when the kernel
 * refuses them the record goes back. A copy begins without any. Loop thread only.
 */
#pragma once

#include "agent/api/api.h"

/* value and payload are taken over. */
struct host_change {
    const char *member; /* of record.host */
    json_t *value;      /* NULL: the member goes */
    const char *event;  /* type of the event that is sent when it is done */
    json_t *payload;
    int status;                                   /* of the reply, and its message */
    const char *message;                          /* a constant */
    json_t *(*report)(const struct container *c); /* data of the reply */
};

/* Answers the call. ERR_BUSY when an operation holds the container. */
void host_setting_change(struct api_call *call, const struct host_change *change);
/* The member, or NULL. Borrowed. */
const json_t *host_setting_get(const struct container *c, const char *member);
