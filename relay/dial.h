/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A TCP connection to the proxy: its name is looked up, then its addresses are tried one after the other, first the one
 * that was reached last, each but the last one for DIAL_PATIENCE_MS. An address that relays do not connect to ends it
 * before anything is sent. Part of the owner; runs on the loop.
 */
#pragma once

#include "relay/relay.h"

enum { DIAL_PATIENCE_MS = 3000 };

struct dial {
    struct relay *relay;
    void *owner;
    void (*connected)(void *owner); /* tcp is there */
    /* Instead of connected; problem is text for people, valid during the call. The owner closes. */
    void (*failed)(void *owner, const char *problem);
    void (*closed)(void *owner); /* after dial_close, when nothing is left */

    uv_tcp_t tcp; /* data is the dial */
    uv_getaddrinfo_t lookup;
    struct addrinfo *addresses, *next; /* next: to be tried after this one */
    uv_connect_t connect;
    uv_timer_t patience;
    int open_handles; /* the timer, the lookup, tcp */
    bool has_tcp, closing;
};

/* The members above the blank line are set, the others zero. Nothing of them is called from inside. */
void dial_start(struct dial *d);
/* Ends whatever is under way, and tcp. */
void dial_close(struct dial *d);
