/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/warm/warm.h"
#include "agent/api/api.h"

void warm_get(struct api_call *call)
{
    reply_ok(call->req, 200, "Pools retrieved successfully", warm_report(call->agent));
}
