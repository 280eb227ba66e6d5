/* SPDX-License-Identifier: Apache-2.0 */
/* TLS towards an https proxy as bytes in, bytes out: the network is the caller's. */
#pragma once

#include <openssl/ssl.h>
#include <stdbool.h>

#include "base/err.h"

struct tls;

/* ca_file NULL: what the system trusts. */
MUST_USE struct err *tls_context(const char *ca_file, SSL_CTX **ret);
/* The proxy must prove that it is host (a name or an address). */
struct tls *tls_new(SSL_CTX *context, const char *host);
void tls_free(struct tls *t);

void tls_feed(struct tls *t, const void *data, size_t len); /* from the network */
/* What has to go to the network now, at most size bytes; 0: nothing. */
size_t tls_take(struct tls *t, void *buf, size_t size);

size_t tls_pending(const struct tls *t); /* how much there is to take */

enum tls_state { TLS_MORE, TLS_OK, TLS_ENDED, TLS_BROKEN };
enum tls_state tls_handshake(struct tls *t);
/* TLS_OK: *ret_len > 0 bytes. */
enum tls_state tls_read(struct tls *t, void *buf, size_t size, size_t *ret_len);
bool tls_write(struct tls *t, const void *data, size_t len); /* all of it, or false */
void tls_end(struct tls *t);                                 /* sends the notice of the end */
/* Why the handshake failed; valid until the next call. */
const char *tls_problem(const struct tls *t);
