/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The mTLS listener: accepts TCP, finishes the handshake, then pumps bytes between the TLS connection and a socketpair
 * whose other end it gives to the HTTP server together with the peer's identity. Nothing reaches the HTTP parser before
 * the client certificate is verified. Loop thread only.
 */
#pragma once

#include "agent/http/tls_context.h"

struct tls_listener;

/* Takes over listen_fd (non-blocking, listening). http must live longer. */
MUST_USE struct err *tls_listener_start(uv_loop_t *loop, int listen_fd, const struct config *config,
                                        struct http_server *http, struct tls_listener **ret);
/* Reads the certificates again; on error the old ones stay in use. Existing connections go on. */
MUST_USE struct err *tls_listener_reload(struct tls_listener *t, const struct config *config);
/* Stops accepting and cuts what is open after its pending bytes; `closed` runs when memory is freed. */
void tls_listener_close(struct tls_listener *t, void *owner, void (*closed)(void *owner));
