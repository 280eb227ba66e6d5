/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files about relays share: relay.c has the process and its stream, relay_status.c what it says of the proxy,
 * relay_child.c the end of a process that was started here. Loop thread only.
 */
#pragma once

#include "agent/network/relay.h"
#include "base/frame.h"

enum phase {
    IDLE,     /* no process; the timer brings the next one */
    STARTING, /* no hello yet; the timer is its deadline */
    UP,
    ENDING, /* asked to end; the timer is its deadline */
};

struct relay {
    struct agent *agent;
    struct relay *next;
    struct container *container; /* NULL: nobody wants it any more */
    int64_t slot;
    char *generation; /* of the configuration that the process has or gets */
    enum phase phase;
    int fd, pidfd;   /* its control stream, the process; -1 when idle */
    uv_poll_t *poll; /* under fd */
    uv_timer_t timer, wait;
    int open_handles;
    bool closing;
    struct frame_reader reader;
    int64_t up_since, retry_ms, checked_at;
    bool known, reachable;
    char *problem; /* when it is not reachable */
    json_t *udp;   /* what it said of datagrams last */
    void *owner;   /* who waits */
    agent_done_fn *done;
    void *close_owner;
    void (*closed)(void *owner);
};

/* Reaps a child when it ends, whatever has become of its relay by then; takes over pidfd. */
void relay_child_watch(struct agent *a, int pidfd);
/* Lets go of all children. closed runs as often as the result says. */
int relay_children_close(struct agent *a, void *owner, void (*closed)(void *owner));

/* problem NULL: the proxy works; else borrowed. Tells who waits, and everybody when that is news. */
void relay_learn(struct relay *r, const char *problem, int64_t checked_at);
/* The same from what the relay says, {"reachable", "problem", "checked_at", "udp"}; or from its error. */
void relay_learn_status(struct relay *r, const json_t *status);
void relay_learn_error(struct relay *r, const json_t *error);
/* Who waits gets its answer now. */
void relay_answer_waiter(struct relay *r);
