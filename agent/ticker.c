/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/ticker.h"

void ticker_init(struct ticker *t, uv_loop_t *loop, void *part)
{
    *t = (struct ticker){0};
    uv_timer_init(loop, &t->timer);
    t->timer.data = part;
}

static void on_closed(uv_handle_t *h)
{
    struct ticker *t = (struct ticker *)h; /* the timer is its first member */
    void (*closed)(void *owner) = t->closed;
    void *owner = t->owner;

    if (t->release)
        t->release(h->data);
    closed(owner);
}

void ticker_close(struct ticker *t, void (*release)(void *part), void *owner, void (*closed)(void *owner))
{
    t->release = release;
    t->owner = owner;
    t->closed = closed;
    uv_close((uv_handle_t *)&t->timer, on_closed);
}
