/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The one error type. A function that can fail returns `struct err *`; NULL is success.
 *
 * An error is owned by whoever holds the pointer: pass it up, wrap it with context on the way, give it to a consumer
 * (a reply, a log line) or free it. Expected outcomes (not found in a lookup) are not errors. Only the top of a chain
 * logs or answers. Making an error never fails: without memory a static one is returned.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>

#include "base/mem.h"

/* code, wire word (the HTTP reason), HTTP status */
#define ERR_MAP(X)                                                                                                     \
    X(ERR_INVALID, "Bad Request", 400)                                                                                 \
    X(ERR_WRONG_STATE, "Bad Request", 400) /* the object is not in a state that allows this */                         \
    X(ERR_UNAUTHORISED, "Unauthorized", 401)                                                                           \
    X(ERR_FORBIDDEN, "Forbidden", 403)                                                                                 \
    X(ERR_NOT_FOUND, "Not Found", 404)                                                                                 \
    X(ERR_METHOD, "Method Not Allowed", 405)                                                                           \
    X(ERR_CONFLICT, "Conflict", 409)                                                                                   \
    X(ERR_BUSY, "Conflict", 409) /* another operation holds the object */                                              \
    X(ERR_GONE, "Gone", 410)     /* was there once, and is not kept any more */                                        \
    X(ERR_TOO_LARGE, "Payload Too Large", 413)                                                                         \
    X(ERR_LIMIT, "Bad Request", 400) /* a documented limit would be passed */                                          \
    X(ERR_TOO_MANY, "Too Many Requests", 429)                                                                          \
    X(ERR_INTERNAL, "Internal Server Error", 500)                                                                      \
    X(ERR_ELSEWHERE, "Not Implemented", 501) /* another server's business */                                           \
    X(ERR_HOST, "Bad Gateway", 502)          /* the host refused: liblxc, btrfs, the kernel */                         \
    X(ERR_UNAVAILABLE, "Service Unavailable", 503)                                                                     \
    X(ERR_TIMEOUT, "Gateway Timeout", 504)                                                                             \
    X(ERR_CANCELLED, "Service Unavailable", 503)

enum err_code {
#define X(code, word, status) code,
    ERR_MAP(X)
#undef X
        ERR_CODE_MAX
};

struct err {
    enum err_code code;
    char *reason;      /* machine word for clients such as CONTAINER_NAME_IN_USE, or NULL */
    char *field;       /* path of the bad input field, or NULL */
    char *message;     /* one sentence for people */
    json_t *data;      /* extra facts for the reply, or NULL */
    int retry_after_s; /* > 0: when a client may try again */
};

MUST_USE struct err *err_new(enum err_code code, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* ": strerror(errnum)" is appended; the code is ERR_HOST unless the caller knows better and says so with err_recode. */
MUST_USE struct err *err_errno(int errnum, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* ERR_INVALID about one input field; the message becomes "field: text". */
MUST_USE struct err *err_field(const char *field, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* Puts "text: " before the message; takes and returns e. NULL stays NULL. */
MUST_USE struct err *err_wrap(struct err *e, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* Sets the machine word (copied) / the input field (copied; NULL: none) / the code / extra data (reference taken over);
 * take and return e. NULL stays NULL. */
MUST_USE struct err *err_reason(struct err *e, const char *reason);
MUST_USE struct err *err_at(struct err *e, const char *field);
MUST_USE struct err *err_recode(struct err *e, enum err_code code);
MUST_USE struct err *err_data(struct err *e, json_t *data);

/* Keeps `first` when there is one and frees `second`, else returns `second`: for clean-up chains. */
MUST_USE struct err *err_first(struct err *first, struct err *second);

void err_free(struct err *e);
DEFINE_AUTO(struct err, err_free)
#define autoerr auto_(err_free) struct err *
/* For a failure that changes nothing for the caller; the name says so at the call. */
static inline void err_ignore(struct err *e)
{
    err_free(e);
}

const char *err_message(const struct err *e);
const char *err_code_name(enum err_code code);
const char *err_code_word(enum err_code code);
int err_code_status(enum err_code code);

/* Between processes: {"code","reason","field","message","data","retry_after_s"}. err_from_json never returns NULL. */
json_t *err_to_json(const struct err *e);
MUST_USE struct err *err_from_json(const json_t *j);
