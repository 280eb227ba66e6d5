/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is said to an upstream proxy until it has connected us to a target: SOCKS5 (RFC 1928, RFC 1929) or HTTP CONNECT
 * (RFC 9110, 9.3.6). Pure: bytes in, bytes out. The target is always an address: the names that a container asked for
 * are not known any more. An answer is hostile: it has a bounded size and nothing of it is believed but its verdict.
 */
#pragma once

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

#include "egress/proxy_url.h"

#define HANDSHAKE_IN_MAX 8192 /* of an HTTP head; SOCKS needs less */
#define HANDSHAKE_OUT_MAX 1536

enum handshake_state {
    HANDSHAKE_MORE,    /* wants to send or to hear more */
    HANDSHAKE_DONE,    /* connected: what follows is the target's */
    HANDSHAKE_REFUSED, /* the proxy works, but does not connect us to this target */
    HANDSHAKE_FAILED,  /* the proxy does not want us, or is none */
};

enum handshake_use {
    HANDSHAKE_CONNECT,
    HANDSHAKE_PROBE,     /* SOCKS5: done when the proxy has accepted us, without a target */
    HANDSHAKE_ASSOCIATE, /* SOCKS5: for datagrams; of the target only the family counts */
};

struct handshake {
    enum proxy_kind kind;
    enum handshake_use use;
    const char *username, *password;
    struct sockaddr_storage target;
    int step;
    size_t in_len, out_len;
    uint8_t in[HANDSHAKE_IN_MAX], out[HANDSHAKE_OUT_MAX]; /* out: to be sent; the caller sets out_len 0 then */
    char problem[96];                                     /* of a refusal or failure */
};

/* Strings are borrowed until the end; username NULL: no credentials. target: AF_INET or AF_INET6. out has what to send
 * first. */
void handshake_init(struct handshake *h, enum proxy_kind kind, const char *username, const char *password,
                    const struct sockaddr *target, enum handshake_use use);
/* Done with HANDSHAKE_ASSOCIATE: where datagrams go to, as the proxy says; false: it does not say an address. */
bool handshake_bound(const struct handshake *h, struct sockaddr_storage *ret);
/* *ret_used: how many of the bytes belong to the handshake; the rest, when it is done, is the target's. */
enum handshake_state handshake_feed(struct handshake *h, const uint8_t *data, size_t len, size_t *ret_used);
