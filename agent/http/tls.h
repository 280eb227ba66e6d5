/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The mTLS listener: accepts TCP, finishes the handshake (tls_handshake.h), then pumps bytes between the TLS connection
 * and a socket pair whose other end it gives to the HTTP server together with the peer's identity (pump.h). Nothing
 * reaches the HTTP parser before the client certificate is verified. Loop thread only.
 */
#pragma once

#include "agent/http/tls_context.h"
#include "agent/http/tls_expiry.h"

struct memory;
struct tls_listener;

/* Reads all files of mTLS as a start does. An error names the file that cannot be used or has expired; *ret_warning
 * (the caller's) says which one expires soon, or is NULL. */
MUST_USE struct err *tls_files_check(const struct config *config, char **ret_warning);
/* Takes over listen_fd (non-blocking, listening). http and memory must live longer. */
MUST_USE struct err *tls_listener_start(uv_loop_t *loop, int listen_fd, const struct config *config,
                                        struct http_server *http, struct memory *memory, struct tls_listener **ret);
/* Reads the certificates and lists again; on an error, or with a list that has expired, the old ones stay in use.
 * Connections whose certificate would not be let in any more are cut, whatever runs over them. */
MUST_USE struct err *tls_listener_reload(struct tls_listener *t, const struct config *config);
/* Of what is in use; borrowed until the next reload. */
const struct tls_expiry *tls_listener_expiry(const struct tls_listener *t);
/* Stops accepting; connections end with the HTTP server, or are cut after some seconds. `closed` runs when memory is
 * freed. */
void tls_listener_close(struct tls_listener *t, void *owner, void (*closed)(void *owner));
