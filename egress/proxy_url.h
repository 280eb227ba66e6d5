/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The URL of an upstream proxy, "socks5://user:secret@host:1080": what it names, and the secret apart from it. Pure;
 * any thread. Texts in errors never quote the URL, it may hold a password.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

enum proxy_kind { PROXY_SOCKS5, PROXY_HTTP, PROXY_HTTPS, PROXY_KIND_MAX };
extern const char *const proxy_kind_words[]; /* also the schemes; NULL-terminated */

#define PROXY_URL_MAX 2048
#define PROXY_SECRET_MAX 255 /* of a user name or password: one byte holds the length in SOCKS (RFC 1929) */

struct proxy_url {
    char *host; /* name, IPv4, or IPv6 without brackets; lower case */
    uint16_t port;
    char *username, *password; /* decoded; both NULL without userinfo, password "" without a colon */
};

/* ERR_INVALID, field "proxy". The scheme must be that of the kind (socks5h counts as socks5); without a port it is
 * 1080, 80 or 443. No path, query or fragment. */
MUST_USE struct err *proxy_url_parse(const char *text, enum proxy_kind kind, struct proxy_url *ret);
/* "socks5://host:1080", without userinfo; the caller frees it. */
char *proxy_url_text(enum proxy_kind kind, const struct proxy_url *u);
void proxy_url_clear(struct proxy_url *u);
