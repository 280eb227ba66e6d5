/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Until when the files of mTLS are good. An expired revocation list refuses every client, an expired CA too, and an
 * expired server certificate is refused by every client: all of that is silent on this side unless it is looked for.
 */
#pragma once

#include <jansson.h>
#include <openssl/ssl.h>

#include "agent/config.h"

enum tls_part { TLS_CERTIFICATE, TLS_CA, TLS_CRL, TLS_PART_MAX };
enum tls_state { TLS_OK, TLS_EXPIRING, TLS_EXPIRED, TLS_STATE_MAX };

enum { TLS_WARN_DAYS = 7 };

/* Wall clock times in ms; until_ms 0: there is no such part, INT64_MAX: it is good for ever. */
struct tls_expiry {
    struct {
        char file[256]; /* a longer name is cut */
        int64_t from_ms, until_ms;
    } part[TLS_PART_MAX];
};

/* Of a context that tls_context_new has made of this configuration. */
void tls_expiry_of(SSL_CTX *ctx, const struct config *c, struct tls_expiry *ret);
enum tls_state tls_expiry_state(const struct tls_expiry *x, int64_t now_ms);
/* ERR_HOST when a part is not good now: which file, since when, and what that means. */
MUST_USE struct err *tls_expiry_check(const struct tls_expiry *x);
/* One sentence about the part that ends first, with the remedy; the caller frees it. NULL when all is well for longer
 * than TLS_WARN_DAYS. */
char *tls_expiry_text(const struct tls_expiry *x, int64_t now_ms);
/* {"state", "parts": [{"part", "file", "until"}], "remedy"} */
json_t *tls_expiry_json(const struct tls_expiry *x);
/* "ok", "expiring" or "expired" */
const char *tls_state_word(enum tls_state state);
