/* SPDX-License-Identifier: Apache-2.0 */
#include <unistd.h>

#include "agent/network/relay_internal.h"
#include "base/spawn.h"

/* A child of ours until it is reaped; independent of what becomes of its relay. */
struct relay_child {
    struct agent *agent;
    struct relay_child *next;
    uv_poll_t poll;
    int pidfd;
    void *close_owner;
    void (*closed)(void *owner);
};

static void on_child_closed(uv_handle_t *h)
{
    struct relay_child *c = h->data, **at = &c->agent->relay_children;

    while (*at != c)
        at = &(*at)->next;
    *at = c->next;
    if (c->closed)
        c->closed(c->close_owner);
    close(c->pidfd);
    free(c);
}

static void on_child_exit(uv_poll_t *poll, int status, int events)
{
    struct relay_child *c = poll->data;
    int ignored;

    (void)status;
    (void)events;
    err_ignore(spawn_reap(c->pidfd, &ignored));
    uv_close((uv_handle_t *)poll, on_child_closed);
}

void relay_child_watch(struct agent *a, int pidfd)
{
    struct relay_child *c = mem_new(struct relay_child);

    *c = (struct relay_child){.agent = a, .next = a->relay_children, .pidfd = pidfd};
    a->relay_children = c;
    c->poll.data = c;
    if (uv_poll_init(a->loop, &c->poll, pidfd) != 0)
        abort();
    uv_poll_start(&c->poll, UV_READABLE, on_child_exit);
}

int relay_children_close(struct agent *a, void *owner, void (*closed)(void *owner))
{
    int count = 0;

    for (struct relay_child *c = a->relay_children; c; c = c->next, count++) {
        c->close_owner = owner;
        c->closed = closed;
        if (!uv_is_closing((uv_handle_t *)&c->poll))
            uv_close((uv_handle_t *)&c->poll, on_child_closed);
    }
    return count;
}
