/* SPDX-License-Identifier: Apache-2.0 */
/* The two protocols behind handshake.h. NAME_heard is called after each byte that was added to h->in. */
#pragma once

#include "egress/handshake.h"

void handshake_say(struct handshake *h, const void *data, size_t len);
enum handshake_state handshake_end(struct handshake *h, enum handshake_state state, const char *fmt, ...)
    PRINTF_LIKE(3, 4);

void socks5_begin(struct handshake *h);
enum handshake_state socks5_heard(struct handshake *h);

void http_connect_begin(struct handshake *h);
enum handshake_state http_connect_heard(struct handshake *h);
