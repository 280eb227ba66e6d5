/* SPDX-License-Identifier: Apache-2.0 */
/* The first look at a request's head, before any byte of a body: what libmicrohttpd lets through and we do not. */
#pragma once

#include <microhttpd.h>

#include "base/err.h"

/* NULL, or why the request is refused; *ret_status gets the HTTP status then. *ret_body_max gets how long the body can
 * get: its Content-Length, or body_max when it comes in chunks. */
MUST_USE struct err *http_gate(struct MHD_Connection *conn, const char *method, const char *url, const char *version,
                               size_t body_max, size_t *ret_body_max, int *ret_status);
