/* SPDX-License-Identifier: Apache-2.0 */
/* Errors of HTTP itself in the platform's envelope: what is refused before, or without, a handler of the API. */
#pragma once

#include <jansson.h>
#include <stddef.h>

#include "base/err.h"

/* "Request Timeout" of 408; "Error" for a status that this program does not answer with. */
const char *http_status_word(int status);
/* {"statusCode", "error", "message", "data": null} */
json_t *http_envelope(int status, const char *message);
/* A whole reply of HTTP/1.1 that ends its connection; the text is the caller's. retry_after_s 0: without the header. */
char *http_error_reply(int status, const char *message, int retry_after_s, size_t *ret_len);
/* Why libmicrohttpd answers with this status. */
const char *http_error_reason(int status);
