/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/api.h"
#include "agent/warm.h"

void warm_get(struct api_call *call)
{
    reply_ok(call->req, 200, "Pools retrieved successfully", warm_report(call->agent));
}
