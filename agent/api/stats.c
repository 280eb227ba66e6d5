/* SPDX-License-Identifier: Apache-2.0 */
/* GET /containers/{id}/stats. */
#include "agent/stats/stats.h"
#include "agent/api/api.h"

static void answer(void *owner, struct err *e, json_t *stats)
{
    struct http_request *req = owner;

    if (e)
        reply_err(req, e);
    else
        reply_ok(req, 200, "Container stats retrieved successfully", stats);
}

void container_stats(struct api_call *call)
{
    stats_read(call->agent, call->container, call->req, answer);
}
