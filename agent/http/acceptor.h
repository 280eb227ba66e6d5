/* SPDX-License-Identifier: Apache-2.0 */
/* A listening socket on the loop. It goes on when the process is out of descriptors. Loop thread only. */
#pragma once

#include <stdbool.h>
#include <sys/socket.h>
#include <uv.h>

struct acceptor {
    uv_poll_t poll;
    uv_timer_t pause;
    int fd, open_handles;
    uint64_t told_ms; /* when the log last said that there is no descriptor */
    void *owner;
    void (*accepted)(void *owner, int fd, const struct sockaddr_storage *from);
    bool (*spare)(void *owner); /* closes something of less use, so that there is a descriptor; false: nothing */
    void *close_owner;
    void (*closed)(void *owner);
};

/* Takes over fd. What the struct is in must live until `closed`. */
void acceptor_start(struct acceptor *a, uv_loop_t *loop, int fd);
void acceptor_close(struct acceptor *a, void *owner, void (*closed)(void *owner));
