/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The broker: a process beside the relay, with the one right that the relay has not, to make sockets that have an
 * address of elsewhere. It gives them out for datagrams only, connected to the container, and not for an address of
 * this host.
 */
#pragma once

#include "relay/relay.h"

struct broker_request {
    uint32_t id;                            /* comes back with the answer */
    struct sockaddr_storage target, client; /* what the socket is bound to, and connected to */
};
struct broker_answer {
    uint32_t id;
    int32_t error; /* errno, or 0: the message carries the socket */
};

/* Forks it; r->broker_fd, of type SOCK_SEQPACKET, ends with it. While all rights are there. */
MUST_USE struct err *broker_start(struct relay *r);
