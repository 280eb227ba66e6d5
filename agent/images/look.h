/* SPDX-License-Identifier: Apache-2.0 */
/* Whether a remote has an image, before anything is made of it. Loop thread only. */
#pragma once

#include "agent/api/api.h"

/* Asks the remotes for `name`. When one has it the handler is called again, with call->image_looked; else the request
 * is answered: 404 when none has it, and what went wrong when that could not be found out. */
void image_look(const struct api_call *call, const char *name, api_handler_fn *handler);
