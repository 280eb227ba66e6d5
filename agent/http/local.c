/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/http/local.h"

#include <stdio.h>
#include <unistd.h>

#include "agent/http/acceptor.h"
#include "agent/http/pump.h"
#include "agent/http/wire_plain.h"

enum { CONNECTIONS_MAX = 512, CLIENT_MAX = 384 };

struct local_listener {
    struct acceptor acceptor;
    struct pump_set pumps;
    int open; /* parts that still close */
    void *owner;
    void (*closed)(void *owner);
};

/* The socket's mode and group let in root and the group of control.group only; who gets this far is an operator. */
static bool peer_of(int fd, struct peer *ret)
{
    struct ucred cred;
    socklen_t len = sizeof(cred);

    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0)
        return false;
    *ret = (struct peer){.role = ROLE_OPERATOR, .local = true};
    snprintf(ret->name, sizeof(ret->name), "uid %u", (unsigned)cred.uid);
    return true;
}

static void on_accepted(void *owner, int fd, const struct sockaddr_storage *from)
{
    struct local_listener *l = owner;
    struct peer peer;

    (void)from;
    if (peer_of(fd, &peer))
        pump_add(&l->pumps, wire_plain(fd), &peer);
    else
        close(fd);
}

static bool on_out_of_descriptors(void *owner)
{
    struct local_listener *l = owner;

    return pump_set_spare(&l->pumps);
}

struct local_listener *local_listener_start(uv_loop_t *loop, int listen_fd, struct http_server *http,
                                            struct memory *memory)
{
    struct local_listener *l = mem_new(struct local_listener);

    pump_set_init(&l->pumps, loop, http, memory, CONNECTIONS_MAX, CLIENT_MAX);
    l->acceptor = (struct acceptor){.owner = l, .accepted = on_accepted, .spare = on_out_of_descriptors};
    acceptor_start(&l->acceptor, loop, listen_fd);
    return l;
}

static void on_part_closed(void *owner)
{
    struct local_listener *l = owner;

    if (--l->open > 0)
        return;
    l->closed(l->owner);
    free(l);
}

void local_listener_close(struct local_listener *l, void *owner, void (*closed)(void *owner))
{
    l->owner = owner;
    l->closed = closed;
    l->open = 2;
    acceptor_close(&l->acceptor, l, on_part_closed);
    pump_set_close(&l->pumps, l, on_part_closed);
}
