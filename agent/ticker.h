/* SPDX-License-Identifier: Apache-2.0 */
/* The timer of a part of the daemon, and how that part ends: when libuv has let go of the timer. Loop thread only. */
#pragma once

#include <uv.h>

struct ticker {
    uv_timer_t timer; /* its data is the part */
    void (*release)(void *part);
    void *owner;
    void (*closed)(void *owner);
};

/* The timer does not run yet: uv_timer_start(&t->timer, ...). */
void ticker_init(struct ticker *t, uv_loop_t *loop, void *part);
/* Later, off this stack: release(part), which may free what t is in (NULL: nothing to do), then closed(owner). */
void ticker_close(struct ticker *t, void (*release)(void *part), void *owner, void (*closed)(void *owner));
